"""Reading what TorchServe says about its workers."""

import json
from http import HTTPStatus

import pytest

from service.errors import InternalError, WorkerUnavailableError
from service.torchserve.management import ModelWorkers, parse_names, parse_workers
from service.torchserve.transport import Reply


def reply(content: object, status: int = HTTPStatus.OK) -> Reply:
    """An answer with a JSON body."""
    return Reply(status, json.dumps(content).encode())


def version(name: str, least: int, *states: str) -> dict[str, object]:
    """One version of a model with workers in these states."""
    return {"modelVersion": name, "minWorkers": least, "workers": [{"status": state} for state in states]}


def test_names() -> None:
    """The list of models gives their names."""
    models = [{"modelName": "a"}, {"modelName": "b"}]
    assert parse_names(reply({"models": models})) == (["a", "b"], None)
    assert parse_names(reply({"models": models, "nextPageToken": "100"})) == (["a", "b"], "100")


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        ([version("1.0", 2, "READY", "READY")], ModelWorkers("m", ("1.0",), 2, 2)),
        ([version("1.0", 2, "READY", "UNLOADING")], ModelWorkers("m", ("1.0",), 1, 2)),
        ([version("1.0", 2)], ModelWorkers("m", ("1.0",), 0, 2)),
        ([version("1.0", 1, "READY"), version("2.0", 1, "READY")], ModelWorkers("m", ("1.0", "2.0"), 2, 2)),
    ],
)
def test_workers_are_counted(versions: list[object], expected: ModelWorkers) -> None:
    """Ready ones, and those that there should be, over all versions."""
    assert parse_workers("m", reply(versions)) == expected


@pytest.mark.parametrize(("ready", "total", "every", "some"), [(0, 0, 0, 0), (0, 2, 0, 0), (1, 2, 0, 1), (2, 2, 1, 1)])
def test_readiness(ready: int, total: int, every: int, some: int) -> None:
    """A model without workers is never ready."""
    workers = ModelWorkers("m", ("1.0",), ready, total)
    assert (workers.all_ready, workers.any_ready) == (bool(every), bool(some))


def test_a_missing_model_is_unavailable() -> None:
    """A model that is not loaded has no workers."""
    with pytest.raises(WorkerUnavailableError):
        parse_workers("m", reply({"code": 404}, HTTPStatus.NOT_FOUND))


@pytest.mark.parametrize("answer", [Reply(200, b"<html>"), Reply(500, b"{}"), reply({"a": 1}), reply([1]), reply(None)])
def test_nonsense_is_an_internal_error(answer: Reply) -> None:
    """Whatever else comes back is a fault of ours, without its text."""
    with pytest.raises(InternalError, match="cannot be understood"):
        parse_names(answer)
    with pytest.raises(InternalError, match="cannot be understood"):
        parse_workers("m", answer)
