"""The error tree and its table, and what gRPC's own retries are told."""

import pytest

from service import errors
from service.status_details import PUSHBACK_KEY, trailing_metadata


def test_every_error_has_a_status_code() -> None:
    """No error of the tree is missing in the table, so none can become an accidental UNKNOWN."""
    assert set(errors.ServiceError.__subclasses__()) == set(errors.STATUS_CODES)


@pytest.mark.parametrize(
    ("error", "pushback"),
    [
        (errors.NoRoomError("full", retry_after=0.0123), "13"),
        (errors.WorkerUnavailableError("gone"), "2000"),
        (errors.DrainingError("shutting down"), "5000"),
        (errors.JobsFullError("full"), "-1"),
        (errors.QuotaError("more than there ever is"), "-1"),
        (errors.InternalError("a fault"), "-1"),
    ],
)
def test_a_client_waits_as_long_as_the_error_says_and_never_long(error: errors.ServiceError, pushback: str) -> None:
    """In whole milliseconds, never sooner than `retry_after`; what takes longer is not tried again behind its back."""
    assert dict(trailing_metadata(error))[PUSHBACK_KEY] == pushback
