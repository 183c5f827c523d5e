"""What a method costs, in forward passes of the bare network, also where it is too long to be run to its end."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.flops import flop_counter
from benchmarks.method_networks import Subject
from benchmarks.peer import Peer
from explainers import Classes, Method, Stepwise


class EnoughError(Exception):
    """Stops a program whose cost is known."""


class Spent(NamedTuple):
    """What a program took so far: processor time, and floating point operations where somebody counts them."""

    seconds: float
    flops: float


class Gauge:
    """Reads what a program takes, stops it at one of its steps when it takes long, and goes on in a straight line.

    The line begins behind the first step: what comes before it is paid once.

    Attributes:
        stopped: whether the program was.
        saliency: the map, where the program ran to its end.
    """

    def __init__(self, seconds: float, counter: FlopCounterMode | None = None) -> None:
        self.stopped = False
        self.saliency: Tensor | None = None
        self._limit = seconds
        self._counter = counter
        self._marks: list[tuple[float, Spent]] = []
        self._began = time.process_time()

    def step(self, done: int, total: int, objective: float = 0.0) -> None:
        """As `explainers.Watch.step`; raises where the program is to stop."""
        if done >= total:
            return
        self._marks.append((done / total, self._spent()))
        if len(self._marks) > 1 and self._marks[-1][1].seconds > self._limit:
            self.stopped = True
            raise EnoughError

    def run(self, program: Callable[[], Tensor]) -> Spent:
        """What the whole program takes."""
        self._began = time.process_time()
        try:
            self.saliency = program()
        except EnoughError:
            return extrapolate(self._marks[0], self._marks[-1])
        return self._spent()

    def _spent(self) -> Spent:
        flops = 0 if self._counter is None else self._counter.get_total_flops()
        return Spent(time.process_time() - self._began, flops)


def extrapolate(first: tuple[float, Spent], last: tuple[float, Spent]) -> Spent:
    """What the whole takes, from what its first share took and what a larger one did."""
    (share, early), (larger, late) = first, last
    rest = (1 - larger) / (larger - share)
    seconds, flops = (after + rest * (after - before) for before, after in zip(early, late, strict=True))
    return Spent(seconds, flops)


Run = Callable[[Gauge], Spent]
"""Runs a program under a gauge."""


def run_ours(method: Method, subject: Subject, gauge: Gauge) -> Spent:
    """Run a method of ours."""
    setting = subject.setting
    watch = {"watch": gauge} if isinstance(method, Stepwise) else {}

    def program() -> Tensor:
        results = method.explain(subject.network, setting.pixels, [Classes((setting.target,))], **watch)
        return results[0].explanations[0].map

    return gauge.run(program)


def run_peer(peer: Peer, gauge: Gauge) -> Spent:
    """Run another library's method, whose steps are the images that it sends through the network."""
    passed = 0

    def count(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        nonlocal passed
        if peer.passes is not None and passed:
            gauge.step(passed, peer.passes)
        passed += len(inputs[0])

    handle = peer.model.register_forward_pre_hook(count)
    try:
        return gauge.run(peer.run)
    finally:
        handle.remove()


class Meter:
    """Measures programs in forward passes of one network."""

    def __init__(self, subject: Subject, seconds: float) -> None:
        self._subject = subject
        self._seconds = seconds
        self._forward_flops = self._counted(lambda gauge: gauge.run(self._forward))[0].flops

    def _forward(self) -> Tensor:
        with torch.inference_mode():
            logits: Tensor = self._subject.setting.model(self._subject.setting.inputs)
        return logits

    def _counted(self, run: Run) -> tuple[Spent, Gauge]:
        with flop_counter() as counter:
            gauge = Gauge(self._seconds, counter)
            return run(gauge), gauge

    def cost(self, run: Run) -> dict[str, float | bool]:
        """Operations and time of a program, in forward passes, and whether it had to be stopped."""
        warm, gauge = self._counted(run)
        ratios: list[float] = []
        end = time.process_time() + self._seconds
        while not ratios or (time.process_time() < end and len(ratios) < 25):
            before, spent, after = (Gauge(0).run(self._forward), run(Gauge(self._seconds)), Gauge(0).run(self._forward))
            ratios.append(spent.seconds / ((before.seconds + after.seconds) / 2))
        flops = warm.flops / self._forward_flops
        return {"flops": flops, "time": statistics.median(ratios), "stopped": gauge.stopped}
