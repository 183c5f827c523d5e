"""What of TorchServe's output reaches the log, and how loud."""

import logging

import pytest

from service.torchserve.logs import LogReader


def records(caplog: pytest.LogCaptureFixture, *chunks: bytes) -> list[tuple[str, int, str]]:
    """Feed a reader and return logger, level and message of each line."""
    caplog.set_level(logging.DEBUG)
    reader = LogReader()
    for chunk in chunks:
        reader.data_received(chunk)
    return [(name.rpartition(".")[2], level, message) for name, level, message in caplog.record_tuples]


def test_java_keeps_its_levels(caplog: pytest.LogCaptureFixture) -> None:
    """A stack trace has the level of the line before it."""
    assert records(caplog, b"WARN ModelServer Failed\nERROR Worker broke\njava.lang.Error\n\tat X.y\n") == [
        ("java", logging.WARNING, "ModelServer: Failed"),
        ("java", logging.ERROR, "Worker: broke"),
        ("java", logging.ERROR, "java.lang.Error"),
        ("java", logging.ERROR, "\tat X.y"),
    ]


def test_workers_are_heard_when_they_say_something_unusual(caplog: pytest.LogCaptureFixture) -> None:
    """A load failure is a warning, the daily chatter is not."""
    assert records(
        caplog,
        b"INFO MODEL_LOG Torch worker started.\nINFO MODEL_LOG RuntimeError: no weights\nINFO MODEL_LOG   in x\n",
    ) == [
        ("worker", logging.DEBUG, "Torch worker started."),
        ("worker", logging.WARNING, "RuntimeError: no weights"),
        ("worker", logging.WARNING, "  in x"),
    ]


def test_lines_are_put_together_and_cut(caplog: pytest.LogCaptureFixture) -> None:
    """Output comes in pieces; one endless line does not fill the memory."""
    assert records(caplog, b"ERROR A b", b"c\n")[0] == ("java", logging.ERROR, "A: bc")
    caplog.clear()
    lines = records(caplog, b"x" * 20_000, b"y\n")
    assert [len(message) for _, _, message in lines] == [20_000, 1]
