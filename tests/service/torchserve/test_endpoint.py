"""Addresses and keys of a TorchServe."""

import json
from pathlib import Path

import pytest

from service.torchserve.endpoint import Endpoint, Keys, socket_path


def test_keys_come_from_the_file(tmp_path: Path) -> None:
    """The file is read each time, because TorchServe may renew it."""
    file = tmp_path / "key_file.json"
    endpoint = Endpoint("unix:/i", "unix:/m", key_file=file)
    for number in ("1", "2"):
        file.write_text(json.dumps({"inference": {"key": "i" + number}, "management": {"key": "m" + number}}))
        assert endpoint.read_keys() == Keys("i" + number, "m" + number)


def test_fixed_keys_and_none() -> None:
    """Without a file the fixed keys hold, and there may be none."""
    assert Endpoint("http://h:1", "http://h:2", keys=Keys("a", "b")).read_keys() == Keys("a", "b")
    assert Endpoint("http://h:1", "http://h:2").read_keys() == Keys(None, None)


@pytest.mark.parametrize("content", ["", "[]", '{"inference": {}}'])
def test_a_broken_key_file_is_an_error(tmp_path: Path, content: str) -> None:
    """A file that holds something else is refused as a value error."""
    file = tmp_path / "key_file.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=r"key file|Expecting"):
        Endpoint("unix:/i", "unix:/m", key_file=file).read_keys()


def test_socket_path() -> None:
    """Only unix addresses have a path."""
    assert socket_path("unix:/a/b.sock") == "/a/b.sock"
    assert socket_path("http://127.0.0.1:8080") is None
