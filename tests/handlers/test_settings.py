"""Limits from the environment."""

import pytest

from handlers.settings import Limits


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables replace defaults; an empty one counts as absent."""
    assert Limits.from_environment() == Limits()
    monkeypatch.setenv("WHYLIGHT_MAX_PIXELS", "1000")
    monkeypatch.setenv("WHYLIGHT_THREADS", "2")
    monkeypatch.setenv("WHYLIGHT_MAX_RENDER_SIDE", "")
    assert Limits.from_environment() == Limits(max_pixels=1000, threads=2)


@pytest.mark.parametrize(
    ("most", "wish", "expected"), [(None, None, None), (2, None, 2), (None, 4, 4), (2, 4, 2), (2, 1, 1)]
)
def test_threads(most: int | None, wish: int | None, expected: int | None) -> None:
    """A machine bounds what a model wants: a container sees the processors of its host."""
    assert Limits(threads=most).threads_for(wish) == expected


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "many", "²", "200000000"])
def test_senseless_value(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """The worker refuses to start instead of running with another limit than the operator believes."""
    monkeypatch.setenv("WHYLIGHT_MAX_PIXELS", value)
    with pytest.raises(ValueError, match="WHYLIGHT_MAX_PIXELS"):
        Limits.from_environment()
