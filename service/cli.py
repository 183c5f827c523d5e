"""The command `whylight`: start the service, or ask it."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Column, Table

from model_store.archive import ArchiveError
from model_store.manifest import ManifestError
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import types_pb2
from service import server, starting
from service.access import Access
from service.access_options import with_access
from service.client import CallError, Client
from service.figures_table import metrics_table
from service.identity.caller import Precision, Role
from service.identity.tokens import clients_entry, new_token, write_token
from service.job_commands import jobs
from service.model_display import models_table, show_model
from service.plugins import add_commands
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
from service.settings import Settings
from service.stream_display import show_stream
from service.terminal import DEFAULT_ADDRESS, Address, ask, check_output, err, fail, out, show_answer
from service.torchserve.errors import TorchServeError
from service.worker_command import running_worker

app = typer.Typer(help="Predictions of image classifiers, and why.", no_args_is_help=True, add_completion=False)
app.add_typer(jobs, name="job")

DEFAULT_TIMEOUT = 60.0

START_ERRORS = (starting.StartError, ManifestError, ArchiveError, TorchServeError)


@app.command()
def serve(
    port: Annotated[int | None, typer.Option(help="Port of the gRPC API; 0 takes a free one.")] = None,
    metrics_port: Annotated[int | None, typer.Option(help="Port of the Prometheus endpoint; 0: a free one.")] = None,
    manifest: Annotated[Path | None, typer.Option(help="The models to serve.")] = None,
    store: Annotated[Path | None, typer.Option(help="Folder for the built archives.")] = None,
    ready_file: Annotated[Path | None, typer.Option(help="Written, with the addresses, once all is ready.")] = None,
) -> None:
    """Start the service and its workers, and answer until interrupted."""
    given = {"port": port, "metrics_port": metrics_port, "manifest": manifest, "store": store, "ready_file": ready_file}
    _run(_settings(given), _serve)


@app.command()
def worker(
    folder: Annotated[Path, typer.Option(help="Where the service finds the sockets and the keys. Both must see it.")],
    manifest: Annotated[Path | None, typer.Option(help="The models to serve.")] = None,
    store: Annotated[Path | None, typer.Option(help="Folder for the built archives.")] = None,
) -> None:
    """Run the workers alone, for a service in another container of this machine: docs/deployment.md."""
    _run(_settings({"manifest": manifest, "store": store}), partial(_serve_worker, folder=folder))


def _settings(given: dict[str, Any]) -> Settings:
    try:
        return Settings(**{name: value for name, value in given.items() if value is not None})
    except ValidationError as error:
        _fail_settings(error)


def _run(settings: Settings, program: Callable[[Settings], Coroutine[Any, Any, None]]) -> None:
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    try:
        asyncio.run(program(settings))
    except START_ERRORS as error:
        err.print(f"[red]{error}", highlight=False)
        raise typer.Exit(1) from None


def _stop_on_signal() -> asyncio.Event:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _serve_worker(settings: Settings, folder: Path) -> None:
    stop = _stop_on_signal()
    async with running_worker(settings, folder):
        out.print("TorchServe answers; its workers load their models")
        await stop.wait()


async def _serve(settings: Settings) -> None:
    stop = _stop_on_signal()
    async with server.running(settings) as service:
        out.print(f"gRPC    {service.address}\nmetrics {service.metrics}", highlight=False)
        with err.status("starting the workers"):
            ready = asyncio.create_task(starting.wait_until_ready(service, settings.start_timeout))
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait((ready, stopped), return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            ready.result()
            if settings.ready_file is not None:
                starting.write_ready_file(settings.ready_file, service)
            out.print("ready")
            await stopped
        for task in (ready, stopped):
            task.cancel()


@app.command()
@with_access
def explain(
    access: Access,
    image: Image,
    model: Model,
    method: Method = DEFAULT_METHOD,
    parameter: Parameters = None,
    target: Targets = None,
    top_k: TopK = None,
    quality: Quality = None,
    compare_with: CompareWith = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Overlay PNG to write.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Show how far the explanation is.")] = False,
    timeout: Annotated[float, typer.Option(min=0.001, help="Seconds to wait for the answer.")] = DEFAULT_TIMEOUT,
    allow_partial: Annotated[bool, typer.Option("--allow-partial", help="Take the best map within --timeout.")] = False,
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """Ask for a prediction and its explanation."""
    check_output(output)
    try:
        request = build_request(image, model, method, parameter, target, top_k, quality, compare_with)
        request.output.overlay_png = output is not None
        request.allow_partial = allow_partial
        with Client(address, timeout, access) as client:
            response = (show_stream if stream else _wait_for)(client, request, err)
    except (CallError, OSError) as error:
        fail(error)
    show_answer(response, output)


def _wait_for(client: Client, request: api.ExplainRequest, console: Console) -> api.ExplainResponse:
    with console.status("waiting for the service"):
        return client.explain(request)


@app.command()
def token(
    name: Annotated[str, typer.Argument(help="Name of the client, for the log and the metrics.")],
    role: Annotated[list[Role], typer.Option(help="What it may do; may be repeated.")],
    precision: Annotated[Precision | None, typer.Option(help="How precise its answers are.")] = None,
    predictions_per_minute: Annotated[float | None, typer.Option(help="Its quota of predictions.")] = None,
    explanations_per_minute: Annotated[float | None, typer.Option(help="Its quota of explained classes.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="New file for the token, in place of showing it.")
    ] = None,
) -> None:
    """Make a bearer token for a new client. It is shown this once; the clients file gets its hash.

    With --output only the entry goes to standard output: whylight token NAME --role explain -o FILE >> clients.toml
    """
    made = new_token()
    try:
        entry = clients_entry(
            name, made, [str(each) for each in role], precision, predictions_per_minute, explanations_per_minute
        )
    except ValidationError as error:
        _fail_settings(error)
    if output is None:
        err.print("the client's token, shown this once:", highlight=False)
        typer.echo(made)
    else:
        try:
            write_token(output, made)
        except OSError as error:
            err.print(f"[red]cannot write the token: {error.strerror}", highlight=False)
            raise typer.Exit(1) from None
    err.print("for the clients file:", highlight=False)
    typer.echo(entry)


@app.command()
@with_access
def models(
    access: Access,
    name: Annotated[str, typer.Argument(help="Show this one with its labels and layers.")] = "",
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """List the deployed models, or show one."""
    with _client(address, access) as client:
        if name:
            show_model(ask(lambda: client.model(name)), out)
        else:
            out.print(models_table(ask(client.models)))


@app.command()
@with_access
def methods(
    access: Access,
    model: Annotated[str, typer.Option(help="Only the methods that work on this model.")] = "",
    address: Address = DEFAULT_ADDRESS,
) -> None:
    """List the saliency methods with their parameters, lanes, and what a map by the defaults takes on each model."""
    table = Table(Column("name", no_wrap=True), "title", "reference", "parameters", "works on", "lane", "models")
    with _client(address, access) as client:
        for method in ask(lambda: client.methods(model)):
            parameters = "\n".join(f"{each.name}: {each.description}" for each in method.parameters)
            lane = types_pb2.Lane.Name(method.lane).removeprefix("LANE_").lower()
            table.add_row(
                method.name, method.title, method.reference, parameters, method.requirement, lane, _costs(method)
            )
    out.print(table)


def _costs(method: types_pb2.MethodInfo) -> str:
    """The models, each with the seconds that were measured there, if any were."""
    seconds = {cost.model: f": {cost.seconds:.2g} s" for cost in method.expected_costs if cost.HasField("seconds")}
    return "\n".join(name + seconds.get(name, "") for name in method.models)


@app.command()
@with_access
def metrics(access: Access, address: Address = DEFAULT_ADDRESS) -> None:
    """List the quality metrics with their parameters, for `whylight explain --quality`."""
    with _client(address, access) as client:
        out.print(metrics_table(ask(client.metrics)))


def _client(address: str, access: Access) -> Client:
    return ask(lambda: Client(address, access=access))


def _fail_settings(error: ValidationError) -> NoReturn:
    for problem in error.errors():
        name = ".".join(map(str, problem["loc"])) or "settings"
        err.print(f"[red]{name}: {problem['msg'].removeprefix('Value error, ')}", highlight=False)
    raise typer.Exit(2)


def main() -> None:
    """Entry point of the command."""
    add_commands(app)
    sys.exit(app())
