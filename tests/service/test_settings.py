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


TLS = {"tls_certificate": "server.pem", "tls_key": "server.key"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "whylight.example"])  # noqa: S104
@pytest.mark.parametrize("given", [{}, TLS, {"clients_file": "c.toml"}, {"allow_remote": True}], ids=str)
def test_other_machines_are_let_in_with_tls_and_identity_only(host: str, given: dict[str, object]) -> None:
    """An address that others reach needs both, and no other setting stands in for them."""
    with pytest.raises(ValidationError, match="tls_certificate, tls_key and clients_file"):
        settings(host=host, **given)
    assert settings(host=host, clients_file="c.toml", **TLS).host == host


@pytest.mark.parametrize(
    "given", [{"tls_certificate": "a"}, {"tls_key": "a"}, {"tls_client_ca": "a"}], ids=lambda given: next(iter(given))
)
def test_half_of_tls_is_refused(given: dict[str, object]) -> None:
    """A certificate needs its key, and mTLS needs both."""
    with pytest.raises(ValidationError, match="tls_key"):
        settings(**given)


def test_metrics_stay_on_this_machine_unless_told() -> None:
    """Where the API listens says nothing of where the metrics do."""
    assert settings(host="0.0.0.0", clients_file="c.toml", **TLS).metrics_host == "127.0.0.1"  # noqa: S104


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
