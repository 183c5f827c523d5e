"""Programs of tensors that a GPU replays by itself: CUDA graphs.

With few images the processor takes longer to start a kernel than the GPU to run it. A captured program starts all of
its kernels at once. It computes the same, on the same memory each time: what is given is copied in, the answer is
copied out. On a CPU, and where a capture fails, the program runs as it is.
"""

import logging
import threading
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

Tensors = tuple[Tensor, ...]
Program = Callable[..., Tensors]
"""Takes tensors to tensors. It waits for none of its values on the processor, and does the same for every value."""

Follow = Callable[[Tensor], Tensor]
Begin = Callable[[Tensor], tuple[Tensor, Follow]]
"""The first of two stages: takes a tensor to its answer and to the second stage, which may use all that it computed."""

Found = TypeVar("Found")

WARM_UPS = 2  # runs before the capture, in which libraries prepare what they keep
MOST_SHAPES = 2  # of one loop: whole parts, and what is left
MOST_PROGRAMS = 2  # of one network: each keeps all that its first stage computed, about 300 MB an image of ViT-B
LARGEST_BATCH = 4  # of a kept program: with more images the GPU has enough to do


class Captured:
    """A program with memory of its own, for inputs of the shapes and dtypes that it was captured with."""

    def __init__(self, program: Program, inputs: Tensors) -> None:
        """Run the program some times, and capture it; it is not kept.

        Raises:
            Exception: whatever CUDA or the program raise where it can't be captured.
        """
        self._inputs = tuple(tensor.clone() for tensor in inputs)
        self._replay, self._outputs = record(lambda: program(*self._inputs), self._inputs[0].device)

    def __call__(self, *inputs: Tensor) -> Tensors:
        """The program's answer, in tensors of its own."""
        for own, given in zip(self._inputs, inputs, strict=True):
            own.copy_(given)
        self._replay()
        return tuple(tensor.clone() for tensor in self._outputs)


class CapturedStages:
    """A program of two stages; the second one works on what the first has computed last."""

    def __init__(self, begin: Begin, given: Tensor) -> None:
        """Capture both; raises as `Captured` does."""
        last: list[Follow] = []

        def first(own: Tensor) -> tuple[Tensor]:
            answer, follow = begin(own)
            last[:] = [follow]
            return (answer,)

        self._first = Captured(first, (given,))
        (follow,) = last  # of the capture: it works on the memory that a replay fills
        self._follow = follow  # keeps that memory
        (answer,) = self._first(given)
        self._second = Captured(lambda seed: (follow(seed),), (torch.zeros_like(answer),))

    def __call__(self, given: Tensor) -> tuple[Tensor, Follow]:
        """As the program's first stage; the second one then takes tensors like the first one's answer."""
        return self._first(given)[0], lambda seed: self._second(seed)[0]


class Graphs:
    """The captured programs of one network. Any number of threads may use it."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._lock = threading.RLock()
        self._failed = False
        self._seen: set[Hashable] = set()
        self._kept: dict[Hashable, CapturedStages] = {}

    @property
    def replays(self) -> bool:
        """Whether programs are captured here."""
        return can_capture(self._device) and not self._failed

    def loop(self) -> "Loop":
        """For a program that one call runs many times."""
        return Loop(self)

    @contextmanager
    def stages(self, key: Hashable, begin: Begin, given: Tensor) -> Iterator[tuple[Tensor, Follow]]:
        """Run a program of two stages that many calls have in common; the second one only within the context.

        Args:
            key: of the program: all that it does depends on this, on what `given` is like, and on the weights.
            begin: the program, captured when it comes for the second time.
            given: what the first stage gets, (batch, ...).
        """
        if not self.replays or len(given) > LARGEST_BATCH:
            yield begin(given)
            return
        with self._lock:
            key = key, _like(given), torch.backends.cuda.matmul.fp32_precision
            kept = self._kept.pop(key, None)
            if kept is None and key in self._seen:
                kept = self.attempt(lambda: CapturedStages(begin, given))
            self._seen.add(key)
            if kept is not None:
                self._kept[key] = kept  # the latest comes last
                while len(self._kept) > MOST_PROGRAMS:
                    del self._kept[next(iter(self._kept))]
            yield (kept or begin)(given)

    def attempt(self, capture: Callable[[], Found]) -> Found | None:
        """What `capture` returns; None where it fails, and then nothing more is captured."""
        with self._lock:
            try:
                return capture()
            except Exception as error:
                self._failed = True
                logger.warning("no CUDA graphs: a capture failed with %s", type(error).__name__)
                return None

    def clear(self) -> None:
        """Give back the memory of what is kept."""
        with self._lock:
            self._kept.clear()


class Loop:
    """Runs one program again and again, as the step of a climb: captured when a shape comes for the second time.

    Its memory is given back with it.
    """

    def __init__(self, graphs: Graphs) -> None:
        self._graphs = graphs
        self._seen: set[Hashable] = set()
        self._captured: dict[Hashable, Captured] = {}

    def __call__(self, program: Program, *inputs: Tensor) -> Tensors:
        """The program's answer; it must be the same program each time."""
        if not self._graphs.replays:
            return program(*inputs)
        like = tuple(map(_like, inputs))
        if like not in self._captured and like in self._seen and len(self._captured) < MOST_SHAPES:
            found = self._graphs.attempt(lambda: Captured(program, inputs))
            if found is not None:
                self._captured[like] = found
        self._seen.add(like)
        return self._captured.get(like, program)(*inputs)


def can_capture(device: torch.device) -> bool:
    """Whether a device has graphs."""
    return device.type == "cuda"


def record(run: Callable[[], Tensors], device: torch.device) -> tuple[Callable[[], None], Tensors]:
    """Capture what `run` does on a GPU.

    Returns:
        What does it again, and its answer: the same tensors each time.
    """
    with torch.cuda.device(device):
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UPS):
                run()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # Other threads may go on using the GPU meanwhile.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            outputs = run()

    def replay() -> None:
        with torch.cuda.device(device):
            graph.replay()

    return replay, outputs


def _like(tensor: Tensor) -> Hashable:
    return tuple(tensor.shape), tensor.dtype
