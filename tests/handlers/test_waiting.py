"""Work in steps: given up when nobody waits any more, stopped before a deadline where that is allowed."""

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explainers import ascent
from handlers.torchserve_handler import TorchServeHandler
from protos.explain.v1 import method_pb2, quality_pb2, types_pb2
from protos.worker.v1 import worker_pb2
from protos.worker.v1.worker_pb2 import WorkRequest
from tests.handlers.service_end import ServiceEnd
from tests.handlers.test_handler import GRAD_CAM, OK, VISIBLE, ask, start, work
from tests.tiny import unpack, write_tiny

CANCELLED = worker_pb2.WORK_STATUS_CANCELLED
LATE = worker_pb2.WORK_STATUS_DEADLINE_EXCEEDED
STEPS = 1000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked archive of a tiny network."""
    path = tmp_path_factory.mktemp("tiny")
    return unpack(write_tiny(path), path)


@pytest.fixture
def handler(folder: Path) -> TorchServeHandler:
    """A handler that has loaded it."""
    return start(folder)


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When each step of Opti-CAM began. A step takes at least 20 ms, so that a watcher keeps up."""
    times: list[float] = []
    original = ascent.Adam.move

    def move(self: ascent.Adam, gradient: Any) -> Any:
        times.append(time.monotonic())
        time.sleep(0.02)
        return original(self, gradient)

    monkeypatch.setattr(ascent.Adam, "move", move)
    return times


def opti_cam(steps: int = STEPS, **fields: Any) -> WorkRequest:
    method = method_pb2.Method(opti_cam=method_pb2.OptiCam(steps=steps))
    return work(**{"method": method, "class_indices": [VISIBLE], **fields})


def followed(request: WorkRequest, service: ServiceEnd, **fields: Any) -> WorkRequest:
    request.following.CopyFrom(service.following(**fields))
    return request


def within(request: WorkRequest, seconds: float) -> WorkRequest:
    request.deadline.FromNanoseconds(int((time.time() + seconds) * 1e9))
    return request


def test_a_service_that_hangs_up_ends_opti_cam_within_a_step(handler: TorchServeHandler, moves: list[float]) -> None:
    """No step begins after the one that goes on; the next request is answered."""
    ended: list[float] = []
    with ServiceEnd(hangs_up=lambda step: step.step >= 3) as service:
        thread = threading.Thread(target=lambda: (service.wait(), ended.append(time.monotonic())))
        thread.start()
        (answer,) = ask(handler, followed(opti_cam(), service))
        thread.join()
    assert (answer.status, answer.reason) == (CANCELLED, "CANCELLED")
    assert sum(began > ended[0] for began in moves) <= 1
    (good,) = ask(handler, work(method=GRAD_CAM))
    assert good.status == OK


def test_progress_counts_up_and_says_how_good_the_map_is(handler: TorchServeHandler, moves: list[float]) -> None:
    """First and last step included; the objective never falls, since it is the best so far."""
    with ServiceEnd() as service:
        (answer,) = ask(handler, followed(opti_cam(steps=12), service))
        service.wait()
    assert answer.status == OK
    steps = [each.step for each in service.steps]
    assert steps == sorted(set(steps))
    assert (steps[0], steps[-1]) == (1, 12)
    assert {(each.steps, each.request_id) for each in service.steps} == {(12, "r-1")}
    objectives = [each.objective for each in service.steps]
    assert objectives == sorted(objectives)
    assert not any(each.maps for each in service.steps)


def test_maps_so_far_lie_where_the_result_does(handler: TorchServeHandler, moves: list[float]) -> None:
    """Only where they are asked for; in shape, range and place like the map that is answered."""
    with ServiceEnd() as service:
        (answer,) = ask(handler, followed(opti_cam(steps=12), service, maps=True))
        service.wait()
    final = answer.image.explanations[0].map
    shown = [each for step in service.steps for each in step.maps]
    assert len(shown) >= 2
    for each in shown:
        assert each.target_index == VISIBLE
        assert each.map.map_to_image == final.map_to_image
        assert list(each.map.values.shape) == list(final.values.shape)
        values = np.frombuffer(each.map.values.data, "<f4")
        assert (values.min(), values.max()) == (0.0, 1.0)


def test_a_group_goes_on_while_somebody_waits(handler: TorchServeHandler, moves: list[float]) -> None:
    """One hangs up, the other has its map; what several clients ask for has no common objective to tell."""
    other = opti_cam(steps=12)
    with ServiceEnd(hangs_up=lambda step: step.step >= 2) as leaves, ServiceEnd() as stays:
        answers = ask(handler, followed(opti_cam(steps=12), leaves), followed(other, stays))
        stays.wait()
    assert answers[1].status == OK
    assert len(moves) == 12
    assert stays.steps[-1].step == 12
    assert not any(each.HasField("objective") for each in stays.steps)


def test_a_group_ends_when_the_last_one_leaves(handler: TorchServeHandler, moves: list[float]) -> None:
    """For a cancel or a deadline, each with its own status."""
    with ServiceEnd(hangs_up=lambda step: step.step >= 2) as service:
        answers = ask(handler, followed(opti_cam(), service), within(opti_cam(), 0.6))
    assert [answer.status for answer in answers] == [CANCELLED, LATE]
    assert len(moves) < STEPS


def test_before_the_deadline_the_best_map_so_far_is_answered_where_that_is_allowed(
    handler: TorchServeHandler, moves: list[float]
) -> None:
    """In time, and marked; the map is the one that so many steps give."""
    began = time.time()
    (answer,) = ask(handler, within(opti_cam(allow_partial=True), 1.0))
    assert time.time() < began + 1.0
    assert answer.status == OK
    (item,) = answer.image.explanations
    assert item.partial.steps == STEPS
    assert 1 <= item.partial.step < STEPS
    (warning,) = [each for each in answer.image.warnings if each.code == types_pb2.WARNING_CODE_PARTIAL]
    assert warning.target_index == VISIBLE
    assert f"{item.partial.step} of {STEPS}" in warning.message
    (short,) = ask(handler, opti_cam(steps=item.partial.step))
    assert item.map.values.data == short.image.explanations[0].map.values.data
    assert not short.image.explanations[0].HasField("partial")


def test_without_leave_a_deadline_is_a_deadline(handler: TorchServeHandler, moves: list[float]) -> None:
    """In a batch each item has what it asked for."""
    strict, lenient = ask(handler, within(opti_cam(), 0.5), within(opti_cam(allow_partial=True), 1.2))
    assert strict.status == LATE
    assert lenient.status == OK
    assert lenient.image.explanations[0].HasField("partial")


def test_a_method_without_a_map_before_its_last_step_cannot_be_partial(handler: TorchServeHandler) -> None:
    """A half-scanned image is no map."""
    occlusion = method_pb2.Method(occlusion=method_pb2.Occlusion(window=2, stride=1))
    request = work(method=occlusion, allow_partial=True)
    (whole,) = ask(handler, request)
    assert not whole.image.explanations[0].HasField("partial")
    (late,) = ask(handler, within(request, 0.003))
    assert late.status == LATE


def test_a_map_that_is_done_in_time_is_not_marked(handler: TorchServeHandler) -> None:
    """Whatever was allowed."""
    (answer,) = ask(handler, within(opti_cam(steps=2, allow_partial=True), 60))
    assert answer.status == OK
    assert not answer.image.explanations[0].HasField("partial")
    assert types_pb2.WARNING_CODE_PARTIAL not in [each.code for each in answer.image.warnings]


def test_quality_ends_when_nobody_waits(handler: TorchServeHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    """The passes of the figures look at the line, too, also behind a method without steps."""
    hung_up = iter([False, False, True])
    monkeypatch.setattr("handlers.line.Line.hung_up", property(lambda _: next(hung_up, True)))
    metrics = [quality_pb2.MetricChoice(name=name) for name in ("insertion", "deletion")]
    with ServiceEnd() as service:
        request = work(method=GRAD_CAM, quality=quality_pb2.QualityOptions(metrics=metrics))
        (answer,) = ask(handler, followed(request, service))
    assert answer.status == CANCELLED
