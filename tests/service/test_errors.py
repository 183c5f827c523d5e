"""The error tree and its table."""

from service import errors


def test_every_error_has_a_status_code() -> None:
    """No error of the tree is missing in the table, so none can become an accidental UNKNOWN."""
    assert set(errors.ServiceError.__subclasses__()) == set(errors.STATUS_CODES)
