"""From what was asked for to tables on the disk."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from evaluation.backend import Backend, Plan
from evaluation.choices import ALL, DEFAULT_METRICS, parameters_of, parse_methods, parse_metrics, split
from evaluation.data import Data, Order, Target, notes, open_data
from evaluation.errors import UsageError
from evaluation.local import open_model
from evaluation.names import read_names
from evaluation.picture import write_picture
from evaluation.remote import Remote
from evaluation.report import make_report
from evaluation.results import open_results
from evaluation.runner import run
from evaluation.tables import to_tables, write_tables
from explainers import Method
from model_store.manifest import DEFAULT_MANIFEST
from quality import Need
from service.client import Client

CALL_SECONDS = 600.0


@dataclass(frozen=True)
class Request:
    """What was asked for; see `evaluation.cli.evaluate`."""

    model: str
    data: str
    methods: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    output: Path = Path("evaluation")
    manifest: Path | None = None
    server: str | None = None
    layout: str = ""
    annotations: Path | None = None
    classes: Path | None = None
    target: Target = "label"
    compare_with: str | None = None
    limit: int | None = None
    seed: int = 0
    batch: int = 8
    device: str = "auto"
    fresh: bool = False


def evaluate_request(request: Request, out: Console, err: Console) -> None:
    """Run an evaluation, or what is left of it, and write and print its tables.

    Raises:
        UsageError: it can't be done as it was asked for; nothing was started.
        EvaluationError: it can't go on; what was found is kept.
    """
    plan = _plan(request)
    with _backend(request, err) as backend:
        order = Order(request.data, request.layout, request.annotations, request.limit, request.seed, request.target)
        data = open_data(order, read_names(backend.labels, request.classes))
        plan = backend.resolve(_fit(plan, data, explicit=bool(request.metrics)), leave_out=_wants_all(request))
        for note in notes(data):
            err.print(note, style="yellow", highlight=False, markup=False)
        settings = _settings(request, plan, backend, data)
        with open_results(request.output, settings, fresh=request.fresh) as results:
            with _progress(plan, data, err) as advance:
                run(plan, backend, data.items, results, batch=request.batch, advance=advance)
            report = make_report(plan, settings, results)
            write_tables(report, request.output)
            write_picture(report, request.output / "picture.png")
    for item, error in list(report.failures.items())[:10]:
        err.print(f"{item}: {error}", style="yellow", highlight=False, markup=False)
    for table in to_tables(report, out.width):
        out.print(table)
    out.print(f"wrote table.csv, table.json, table.md and picture.png to {request.output}", highlight=False)


def _wants_all(request: Request) -> bool:
    return not request.methods or ALL in split(request.methods)


def _plan(request: Request) -> Plan:
    """What was asked for, before the model and the data are looked at."""
    other: Method | None = None
    if request.compare_with:
        named = parse_methods([request.compare_with])
        if len(named) != 1:
            raise UsageError("--compare-with takes one method")
        other = next(iter(named.values()))
    return Plan(
        methods=parse_methods(request.methods or (ALL,)),
        metrics=parse_metrics(request.metrics or DEFAULT_METRICS),
        target=request.target,
        compare_with=other,
    )


def _fit(plan: Plan, data: Data, *, explicit: bool) -> Plan:
    """Without the default metrics that this data can't answer; one that was named is refused."""
    missing = {Need.BOXES: not data.has_boxes, Need.MASKS: not data.has_masks}
    metrics = dict(plan.metrics)
    for key, metric in plan.metrics.items():
        for need, absent in missing.items():
            if absent and need in metric.needs:
                if explicit:
                    raise UsageError(f"{key} needs {need.value}, and this data has none")
                metrics.pop(key, None)
    return replace(plan, metrics=metrics)


@contextmanager
def _backend(request: Request, err: Console) -> Iterator[Backend]:
    if request.server is None:
        with err.status("loading the model"):
            local = open_model(request.model, request.manifest or DEFAULT_MANIFEST, request.device)
        yield local
        return
    if request.manifest is not None:
        raise UsageError("--manifest and --server exclude each other: the service has its own models")
    with Client(request.server, timeout=CALL_SECONDS) as client:
        yield Remote(client, request.model)


def _settings(request: Request, plan: Plan, backend: Backend, data: Data) -> dict[str, Any]:
    """All that the figures depend on."""
    other = plan.compare_with
    return {
        **backend.describe(),
        "computed_by": "service" if request.server else "this process",
        "data": data.describe(),
        "target": plan.target,
        "compare_with": other and {"name": other.name, "parameters": parameters_of(other)},
        "metrics": {key: {"name": each.name, "parameters": parameters_of(each)} for key, each in plan.metrics.items()},
        "methods": {key: {"name": each.name, "parameters": parameters_of(each)} for key, each in plan.methods.items()},
    }


@contextmanager
def _progress(plan: Plan, data: Data, err: Console) -> Iterator[Any]:
    """One bar over all images and methods, with the time that is left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=err, transient=True) as progress:
        task = progress.add_task("", total=len(plan.methods) * len(data.items))

        def advance(method: str, images: int) -> None:
            progress.update(task, advance=images, description=method)

        yield advance
