"""The commands `whylight job ...`: explanations that outlive the connection."""

from pathlib import Path
from typing import Annotated

import typer
from google.longrunning import operations_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import job_pb2
from service.access import Access, CallError
from service.access_options import with_access
from service.job_client import JobClient, metadata, response
from service.question import (
    DEFAULT_METHOD,
    CompareWith,
    Image,
    Method,
    Model,
    Parameters,
    Quality,
    Targets,
    TopK,
    build_request,
)
from service.terminal import DEFAULT_ADDRESS, Address, ask, check_output, err, fail, out, show_answer

STEP = 1.0  # seconds between two looks at a job's progress

jobs = typer.Typer(help="Explanations that outlive the connection.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the job, as `whylight job create` printed it.")]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Overlay PNG to write.")]


@jobs.command()
@with_access
def create(
    access: Access,
    image: Image,
    model: Model,
    method: Method = DEFAULT_METHOD,
    parameter: Parameters = None,
    target: Targets = None,
    top_k: TopK = None,
    quality: Quality = None,
    compare_with: CompareWith = None,
    overlay: Annotated[bool, typer.Option("--overlay", help="Have an overlay PNG drawn, for `get` to write.")] = False,
    request_id: Annotated[str, typer.Option(help="Your own id: the same one gives the same job.")] = "",
    timeout: Annotated[float | None, typer.Option(help="Seconds that the computation may take.")] = None,
    ttl: Annotated[float | None, typer.Option(help="Seconds to wait at most, and to keep the result.")] = None,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Have an image explained in the background. Prints the job's name."""
    try:
        request = build_request(image, model, method, parameter, target, top_k, quality, compare_with)
        request.output.overlay_png = overlay
    except (CallError, OSError) as error:
        fail(error)
    asked = api.CreateExplanationJobRequest(
        request=request, request_id=request_id, timeout=_duration(timeout), ttl=_duration(ttl)
    )
    with _client(address, access) as client:
        typer.echo(ask(lambda: client.create(asked)).name)


@jobs.command("list")
@with_access
def list_(
    access: Access,
    done: Annotated[bool | None, typer.Option("--done/--not-done", help="Only jobs that have ended, or not.")] = None,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """List your jobs, newest first."""
    only = "" if done is None else f"done={str(done).lower()}"
    table = Table(
        Column("name", no_wrap=True), "state", "model", "method", "created", "expires", "progress", "request id"
    )
    with _client(address, access) as client:
        for operation in ask(lambda: list(client.list(only))):
            said = metadata(operation)
            steps = f"{said.step}/{said.steps}" if said.steps else ""
            times = [each.ToDatetime().isoformat(" ", "seconds") for each in (said.create_time, said.expire_time)]
            table.add_row(operation.name, _state(said), said.model, said.method, *times, steps, said.request_id)
    out.print(table)


@jobs.command()
@with_access
def get(access: Access, name: Name, output: Output = None, address: Address = DEFAULT_ADDRESS) -> None:
    """Show a job, with its answer when it has one."""
    check_output(output)
    with _client(address, access) as client:
        _show(ask(lambda: client.get(name)), output)


@jobs.command()
@with_access
def wait(access: Access, name: Name, output: Output = None, address: Address = DEFAULT_ADDRESS) -> None:
    """Wait for a job, and show its answer."""
    check_output(output)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    bar = Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
    with _client(address, access) as client, bar as progress:
        task = progress.add_task("waiting", total=None)
        operation = ask(lambda: client.wait(name, 0))
        while not operation.done:
            said = metadata(operation)
            progress.update(task, description=_state(said), completed=said.step, total=said.steps or None)
            operation = ask(lambda: client.wait(name, STEP))
    _show(operation, output)


@jobs.command()
@with_access
def cancel(access: Access, name: Name, address: Address = DEFAULT_ADDRESS) -> None:
    """End a job; one that has ended stays as it is."""
    with _client(address, access) as client:
        ask(lambda: client.cancel(name))


@jobs.command()
@with_access
def delete(access: Access, name: Name, address: Address = DEFAULT_ADDRESS) -> None:
    """Forget a job with its result; one that runs is cancelled."""
    with _client(address, access) as client:
        ask(lambda: client.delete(name))


def _client(address: str, access: Access) -> JobClient:
    return ask(lambda: JobClient(address, access=access))


def _show(operation: operations_pb2.Operation, output: Path | None) -> None:
    """The answer; of a job without one its state, and exit with 1 where it will never have one."""
    answer = response(operation)
    if answer is not None:
        show_answer(answer, output)
    elif operation.done:
        fail(CallError(f"{code_pb2.Code.Name(operation.error.code)}: {operation.error.message}"))
    else:
        said = metadata(operation)
        out.print(f"{_state(said)}, step {said.step} of {said.steps}" if said.steps else _state(said), highlight=False)


def _state(said: job_pb2.ExplanationJobMetadata) -> str:
    return job_pb2.JobState.Name(said.state).removeprefix("JOB_STATE_").lower()


def _duration(seconds: float | None) -> Duration | None:
    if seconds is None:
        return None
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration
