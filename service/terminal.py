"""What the commands that ask the service have in common: how they print answers, and how they fail."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import types_pb2
from service.access import CallError
from service.figures_table import figures_table

T = TypeVar("T")

out = Console()
err = Console(stderr=True)

Address = Annotated[str, typer.Option(envvar="WHYLIGHT_ADDRESS", help="host:port of the service.")]
DEFAULT_ADDRESS = "127.0.0.1:50051"


def ask(call: Callable[[], T]) -> T:
    """What the service answers; an error ends the command with 1."""
    try:
        return call()
    except CallError as error:
        fail(error)


def fail(error: Exception) -> NoReturn:
    """End the command with 1 and the error's text."""
    text = f"cannot read the image: {error.strerror}" if isinstance(error, OSError) else str(error)
    err.print(f"[red]{text}", highlight=False)
    raise typer.Exit(1)


def check_output(output: Path | None) -> None:
    """End the command with 1 where nothing can be written to `output`: before anything is computed."""
    if output is not None and not output.parent.is_dir():
        fail(CallError(f"cannot write {output}: there is no folder {output.parent}"))


def show_answer(response: api.ExplainResponse, output: Path | None) -> None:
    """Print the answer to Explain, and write its overlays to `output` where that is given."""
    _print_predictions(response)
    if any(explanation.quality for explanation in response.explanations):
        out.print(figures_table(response))
    if output is not None:
        _write_overlays(response, output)
    for warning in response.warnings:
        code = types_pb2.WarningCode.Name(warning.code).removeprefix("WARNING_CODE_")
        where = f" (class {warning.target_index})" if warning.HasField("target_index") else ""
        err.print(f"[yellow]{code}{where}: {warning.message}", highlight=False)


def _print_predictions(response: api.ExplainResponse) -> None:
    explained = {explanation.target.index for explanation in response.explanations}
    table = Table("class", "label", "probability", "explained", title=response.provenance.model)
    rows = {score.index: score for score in response.predictions}
    rows.update({explanation.target.index: explanation.target for explanation in response.explanations})
    for index, score in rows.items():
        table.add_row(str(index), score.label, f"{score.probability:.4f}", "yes" if index in explained else "")
    out.print(table)
    total = response.timings.total.ToNanoseconds() / 1e6
    precision = types_pb2.Precision.Name(response.provenance.precision).removeprefix("PRECISION_").lower()
    out.print(
        f"{response.provenance.method.WhichOneof('method')} on {response.provenance.target_layer or 'no layer'}, "
        f"{response.provenance.runtime} on {response.provenance.device}, {total:.1f} ms, precision {precision}, "
        f"request {response.provenance.request_id}",
        highlight=False,
    )


def _write_overlays(response: api.ExplainResponse, output: Path) -> None:
    """One file for one target; with several, the class index is put before the suffix."""
    for explanation in response.explanations:
        if not explanation.overlay_png:
            continue
        several = len(response.explanations) > 1
        path = output.with_stem(f"{output.stem}_{explanation.target.index}") if several else output
        try:
            path.write_bytes(explanation.overlay_png)
        except OSError as error:
            fail(CallError(f"cannot write {path}: {error.strerror}"))
        out.print(f"wrote {path}", highlight=False)
