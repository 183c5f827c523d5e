"""A worker keeps nothing of the requests that it has answered."""

import gc
import itertools
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from benchmarks.reliability.questions import ALWAYS_SLOW, few_passes
from handlers.torchserve_handler import TorchServeHandler
from protos.explain.v1 import quality_pb2
from protos.worker.v1 import worker_pb2
from protos.worker.v1.worker_pb2 import WorkRequest
from service.client import build_method
from tests.handlers.pictures import flat
from tests.handlers.test_handler import ALL, GRAD_CAM, PHOTO, ask, start, work
from tests.tiny import unpack, write_tiny

REQUESTS = 2000
BATCH = 4
_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


@dataclass(frozen=True)
class Held:
    """What a process holds: hooks on the network's modules, tensors, open descriptors, threads."""

    hooks: int
    tensors: int
    descriptors: int
    threads: int


def held(handler: TorchServeHandler) -> Held:
    assert handler._worker is not None
    gc.collect()
    found = gc.get_objects()
    modules = [each for each in found if issubclass(type(each), nn.Module)]
    return Held(
        hooks=sum(len(getattr(module, name)) for module in modules for name in _HOOKS),
        tensors=sum(issubclass(type(each), torch.Tensor) for each in found),
        descriptors=len(os.listdir("/proc/self/fd")),
        threads=threading.active_count(),
    )


@pytest.fixture(scope="module")
def handler(tmp_path_factory: pytest.TempPathFactory) -> TorchServeHandler:
    """A network that fails over white images and runs out of memory over black ones."""
    folder = tmp_path_factory.mktemp("leaks")
    return start(unpack(write_tiny(folder, "Fussy"), folder))


def mixed(handler: TorchServeHandler) -> list[WorkRequest | bytes | None]:
    """Good requests by every method that is not slow, and everything that can be wrong with one."""
    (answer,) = ask(handler, WorkRequest(request_id="d", describe=worker_pb2.DescribeWork()))
    supported = {each.method for each in answer.description.model.methods if each.supported}
    explanations = [
        work(method=build_method(info.name, few_passes(info)), class_indices=[1, 2])
        for info in answer.description.methods
        if info.name in supported and info.name not in ALWAYS_SLOW
    ]
    late = work(method=GRAD_CAM, class_indices=[1])
    late.deadline.FromSeconds(int(time.time()) - 1)
    figures = quality_pb2.QualityOptions(metrics=[quality_pb2.MetricChoice(name="average_drop")])
    return [
        *explanations,
        work(),
        work(method=GRAD_CAM, class_indices=[1], output=ALL),
        work(method=GRAD_CAM, class_indices=[1], quality=figures),
        work(b"no image"),
        work(PHOTO[: len(PHOTO) // 2]),
        work(flat(255), method=GRAD_CAM, class_indices=[1]),
        work(flat(0), method=GRAD_CAM, class_indices=[1]),
        work(method=GRAD_CAM, class_indices=[999]),
        work(method=build_method("grad_cam", ["layer=none"]), class_indices=[1]),
        late,
        b"\xff no message",
        None,
    ]


def test_two_thousand_mixed_requests_leave_nothing_behind(handler: TorchServeHandler) -> None:
    """Hooks, tensors, descriptors and threads are as many as before, whatever the requests were."""
    requests = mixed(handler)
    statuses: Counter[int] = Counter()

    def serve(count: int) -> None:
        endless = itertools.islice(itertools.cycle(requests), count)
        while batch := list(itertools.islice(endless, BATCH)):
            statuses.update(answer.status for answer in ask(handler, *batch))

    serve(2 * len(requests))  # what is made once is made now
    before = held(handler)
    serve(REQUESTS)
    assert held(handler) == before
    assert len(statuses) > 3
    assert statuses[worker_pb2.WORK_STATUS_OK] > REQUESTS / 2
