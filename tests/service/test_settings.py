"""Settings that would be dangerous are refused."""

import pytest
from pydantic import ValidationError

from service.settings import Settings


def settings(**fields: object) -> Settings:
    return Settings(_env_file=None, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_loopback_is_the_default_reach(host: str) -> None:
    """Loopback addresses need no permission."""
    assert settings(host=host).host == host


def test_other_machines_are_let_in_only_on_purpose() -> None:
    """An address that others reach needs allow_remote."""
    with pytest.raises(ValidationError, match="allow_remote"):
        settings(host="0.0.0.0")  # noqa: S104
    assert settings(host="0.0.0.0", allow_remote=True).allow_remote  # noqa: S104


def test_an_external_worker_needs_both_addresses() -> None:
    """One address of a TorchServe elsewhere is not enough."""
    with pytest.raises(ValidationError, match="go together"):
        settings(worker_inference_address="http://127.0.0.1:8080")


def test_the_environment_sets_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """WHYLIGHT_PORT sets the port."""
    monkeypatch.setenv("WHYLIGHT_PORT", "1234")
    assert settings().port == 1234


@pytest.mark.parametrize(
    "wrong",
    [{"quality_share": 1.5}, {"quality_share": -1}, {"quality_below_confidence": 2}, {"quality_budget": 0}],
)
def test_shares_are_shares(wrong: dict[str, float]) -> None:
    """Whoever means percent is told; a budget of nothing would never measure what it draws."""
    with pytest.raises(ValidationError):
        settings(**wrong)
