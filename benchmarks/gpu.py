"""What the service's work costs on one GPU: predictions, Grad-CAM, Opti-CAM and TIBAV, beside plain passes and others.

`python -m benchmarks.gpu [--output docs/performance.md]`, for less than eight minutes; `--device cpu --quick` tries it.

As a worker does it: kernels in channels_last, exact float32 or the arithmetic that the rule allows, CUDA graphs. Times
are from pixels in pinned memory to finished results, one target an image. Random weights: they cost what trained ones
do. Without a GPU it says so, and leaves the document alone.
"""

import argparse
import copy
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks import grad_cam_cost
from benchmarks.grad_cam_cost import MEAN, SIDE, STD
from benchmarks.reliability.tables import fill, milliseconds, table
from benchmarks.timing import Program, machine
from explainers import GradCam, Method, Network, OptiCam, Tibav
from explainers.arithmetic import AUTOCAST, Arithmetic, computing, exact_float32
from explainers.graphs import Graphs
from handlers.arithmetic import Likeness, candidates_of, explain_in, likeness
from handlers.arrangement import arranged
from handlers.sanity import clouds
from handlers.settings import Numbers
from handlers.transfer import stack

SECTION = "cuda"
COMMAND = "python -m benchmarks.gpu --output docs/performance.md"
SECONDS = 360.0  # after these no row is begun
PREDICT, GRAD_CAM, OPTI_CAM, TIBAV = "predict", "Grad-CAM", "Opti-CAM, 100 steps", "TIBAV"
WITHOUT_GRAPHS = ", without CUDA graphs"
BATCHES: Mapping[str, tuple[int, ...]] = {PREDICT: (1, 32), GRAD_CAM: (1, 32), OPTI_CAM: (1, 8), TIBAV: (1, 8)}
HEAD = ("network", "batch", "what", "arithmetic", "images/s", "p50", "p99", "runs", "in plain passes", "others")
LIKENESS_HEAD = ("network", "what", *(each.value for each in Arithmetic if each is not Arithmetic.FLOAT32), "chosen")
NO_GPU = "No GPU was at hand, so the cells are empty: nothing here is estimated."
Peers = Callable[[nn.Module, Tensor], Mapping[str, Program]]


@dataclass(frozen=True)
class Subject:
    """A network to measure.

    Attributes:
        name: of the network.
        build: makes it.
        side: of its images, in pixels.
        target_layer: what is explained.
        questions: what is asked of it, by name; None is a prediction.
        peers: other libraries' Grad-CAM of normalised images, by the library's name.
    """

    name: str
    build: Callable[[torch.device], nn.Module]
    side: int
    target_layer: str
    questions: Mapping[str, Method | None]
    peers: Peers


@dataclass(frozen=True)
class Row:
    """One line of the table; `seconds` of each run, `forward` of a plain pass in the same arithmetic."""

    network: str
    batch: int
    what: str
    arithmetic: str
    seconds: tuple[float, ...]
    forward: float
    others: Mapping[str, float]

    def cells(self) -> list[object]:
        """As `HEAD`."""
        named = [self.network, self.batch, self.what, self.arithmetic]
        if not self.seconds:
            return [*named, "", "", "", "", "", ""]
        middle = statistics.median(self.seconds)
        latest = sorted(self.seconds)[round(0.99 * (len(self.seconds) - 1))]
        others = ", ".join(f"{name} {seconds / self.forward:.2f}" for name, seconds in self.others.items())
        return [
            *named,
            f"{self.batch / middle:.1f}",
            *(milliseconds(middle), milliseconds(latest), len(self.seconds), f"{middle / self.forward:.2f}", others),
        ]


class Clock:
    """Times programs until the time for all of them is up."""

    def __init__(self, device: torch.device, seconds: float, each: float, least_runs: int) -> None:
        self._device = device
        self._end = time.monotonic() + seconds
        self._each = each
        self._least_runs = least_runs

    def runs(self, program: Program, warm_ups: int = 3) -> tuple[float, ...]:
        """Seconds of each run; none where the time is up."""
        if time.monotonic() > self._end:
            return ()
        for _ in range(warm_ups):
            program()
        end = min(self._end, time.monotonic() + self._each)
        found: list[float] = []
        while len(found) < self._least_runs or time.monotonic() < end:
            self._wait()
            start = time.perf_counter()
            program()
            self._wait()
            found.append(time.perf_counter() - start)
        return tuple(found)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


class Prepared:
    """A subject as a worker has it, on the device."""

    def __init__(self, subject: Subject, device: torch.device, candidates: Sequence[Arithmetic]) -> None:
        self.subject = subject
        self.device = device
        self.model = subject.build(device)
        size = (subject.side, subject.side)
        network = Network(
            self.model, input_size=size, mean=MEAN, std=STD, target_layer=subject.target_layer, device=device
        )
        self.network = arranged(self.model, network)
        self.found = {what: self._likenesses(question, candidates) for what, question in subject.questions.items()}

    def chosen(self, what: str) -> Arithmetic:
        """What the rule allows."""
        found = self.found[what]
        return next((each for each, like in found.items() if like.will_do), Arithmetic.FLOAT32)

    def _likenesses(self, question: Method | None, candidates: Sequence[Arithmetic]) -> dict[Arithmetic, Likeness]:
        images, network = clouds(self.network), self.network
        method = question and question.resolve(network)
        exact = explain_in(network, images, method, Arithmetic.FLOAT32)
        return {
            each: likeness(exact, explain_in(network, images, method, each), network.activation) for each in candidates
        }

    def images(self, batch: int) -> Tensor:
        """Seeded noise, as a worker hands it over."""
        shape = (3, self.subject.side, self.subject.side)
        noise = torch.rand(batch, *shape, generator=torch.Generator().manual_seed(0))
        return stack(list(noise), self.device)

    def inputs(self, batch: int) -> Tensor:
        """The same, normalised and on the device."""
        mean, std = (torch.tensor(values, device=self.device).view(1, 3, 1, 1) for values in (MEAN, STD))
        return (self.images(batch).to(self.device) - mean) / std

    def forward(self, batch: int, arithmetic: Arithmetic) -> Program:
        """A plain pass of the bare model."""
        inputs, dtype = self.inputs(batch), AUTOCAST.get(arithmetic)

        def run() -> None:
            autocast = torch.autocast(self.device.type, dtype=dtype, enabled=dtype is not None)
            with torch.inference_mode(), computing(self.network, arithmetic), autocast:
                self.model(inputs)

        return run

    def program(self, what: str, batch: int, arithmetic: Arithmetic, *, with_graphs: bool) -> Program:
        """Ours."""
        images, network = self.images(batch), copy.copy(self.network)
        if not with_graphs:
            network.graphs = Graphs(torch.device("cpu"))
        question = self.subject.questions[what]
        method = question and question.resolve(network)
        return lambda: explain_in(network, images, method, arithmetic)


def rows_of(prepared: Prepared, clock: Clock, batches: Mapping[str, Sequence[int]]) -> list[Row]:
    """Every question at every batch size."""
    plan = [(what, batch) for what in prepared.subject.questions for batch in batches[what]]
    found: list[Row] = []
    for what, batch in tqdm(plan, desc=prepared.subject.name, unit="row"):
        arithmetic = prepared.chosen(what)
        forward = clock.runs(prepared.forward(batch, arithmetic))
        others = _others(prepared, clock, batch) if what == GRAD_CAM else {}
        slow = what in (OPTI_CAM, TIBAV)
        for with_graphs in (True, False) if slow and batch == 1 and prepared.device.type == "cuda" else (True,):
            program = prepared.program(what, batch, arithmetic, with_graphs=with_graphs)
            seconds = clock.runs(program, warm_ups=1 if what == OPTI_CAM else 3) if forward else ()
            plain = statistics.median(forward) if forward else float("nan")
            name = what if with_graphs else what + WITHOUT_GRAPHS
            found.append(Row(prepared.subject.name, batch, name, arithmetic, seconds, plain, others))
    return found


def _others(prepared: Prepared, clock: Clock, batch: int) -> dict[str, float]:
    """Median seconds of other libraries, in float32."""
    try:
        peers = prepared.subject.peers(prepared.model, prepared.images(batch).to(prepared.device))
    except ImportError:  # the extra `oracles` is not installed
        return {}
    runs = {name: clock.runs(program) for name, program in peers.items()}
    return {name: statistics.median(seconds) for name, seconds in runs.items() if seconds}


def likeness_rows(prepared: Prepared) -> list[list[object]]:
    """As `LIKENESS_HEAD`."""
    rows: list[list[object]] = []
    for what, found in prepared.found.items():
        cells = [_likeness_text(found.get(Arithmetic(name))) for name in LIKENESS_HEAD[2:-1]]
        rows.append([prepared.subject.name, what, *cells, prepared.chosen(what)])
    return rows


def _likeness_text(like: Likeness | None) -> str:
    if like is None:
        return ""
    if like.equal:
        return "the same bits"
    return f"{like.correlation:.5f}{'' if like.same_class else ', another class'}"


def text(rows: Sequence[Row], likenesses: Sequence[Sequence[object]], where: str) -> str:
    """Both tables."""
    return "\n\n".join(
        [where, table(HEAD, [row.cells() for row in rows]), table(LIKENESS_HEAD, [list(row) for row in likenesses])]
    )


def empty(subjects: Sequence[Subject]) -> str:
    """The tables with nothing in them."""
    rows, likenesses = [], []
    for subject in subjects:
        for what in subject.questions:
            likenesses.append([subject.name, what, *("" for _ in LIKENESS_HEAD[2:])])
            for batch in BATCHES[what]:
                rows.append(Row(subject.name, batch, what, "", (), 0.0, {}))
                if batch == 1 and what in (OPTI_CAM, TIBAV):
                    rows.append(Row(subject.name, batch, what + WITHOUT_GRAPHS, "", (), 0.0, {}))
    return text(rows, likenesses, NO_GPU)


def report(subjects: Sequence[Subject], device: torch.device, clock: Clock, *, quick: bool) -> str:
    """Measure everything."""
    exact_float32()
    candidates = candidates_of(device, Numbers.AUTO) or (Arithmetic.BFLOAT16,)
    batches = {what: sizes[:1] if quick else sizes for what, sizes in BATCHES.items()}
    rows: list[Row] = []
    likenesses: list[list[object]] = []
    captured = []
    for subject in subjects:
        prepared = Prepared(subject, device, candidates)
        rows += rows_of(prepared, clock, batches)
        likenesses += likeness_rows(prepared)
        captured.append(f"{subject.name} {'yes' if prepared.network.graphs.replays else 'no'}")
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    versions = f"Python {platform.python_version()}, CUDA {torch.version.cuda}, cuDNN {cudnn}"
    return text(rows, likenesses, f"{machine()}, {versions}. CUDA graphs: {', '.join(captured)}.")


def subjects(*, quick: bool) -> tuple[Subject, ...]:
    """ResNet-50 and ViT-B/16; quickly, Opti-CAM takes two steps."""
    questions: dict[str, Method | None] = {
        PREDICT: None,
        GRAD_CAM: GradCam(),
        OPTI_CAM: OptiCam(steps=2 if quick else 100),
    }
    return (
        _torchvision("resnet50", questions),
        _torchvision("vit_b_16", {**questions, TIBAV: Tibav()}),
    )


def _torchvision(name: str, questions: Mapping[str, Method | None]) -> Subject:
    def peers(model: nn.Module, images: Tensor) -> Mapping[str, Program]:
        _, found = grad_cam_cost.programs(name, model, images)
        return {library: program for library, program in found.items() if not library.startswith(grad_cam_cost.OURS)}

    layer = grad_cam_cost.NETWORKS[name]
    return Subject(name, partial(grad_cam_cost.build, name), SIDE, layer, questions, peers)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--quick", action="store_true", help="one image, few runs, two steps of Opti-CAM")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all rows; what comes later stays empty")
    parser.add_argument("--output", type=Path, help="document whose section is filled; from a whole run on a GPU only")
    chosen = parser.parse_args(arguments)
    if chosen.device == "cuda" and not torch.cuda.is_available():
        sys.exit("there is no GPU here: nothing was measured, and no document was changed")
    device = torch.device("cuda", 0) if chosen.device == "cuda" else torch.device("cpu")
    clock = Clock(device, chosen.seconds, each=0.1 if chosen.quick else 6.0, least_runs=1 if chosen.quick else 3)
    found = report(subjects(quick=chosen.quick), device, clock, quick=chosen.quick)
    print(found)
    if chosen.output and device.type == "cuda" and not chosen.quick:
        fill(chosen.output, SECTION, found)


if __name__ == "__main__":
    main()
