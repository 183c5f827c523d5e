"""Jobs do not make tests wait."""

import pytest

from service.jobs import runner


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks for jobs often."""
    monkeypatch.setattr(runner, "POLL", 0.01)
    monkeypatch.setattr(runner, "SWEEP_INTERVAL", 0.02)
