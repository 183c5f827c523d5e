"""What the command line shows while an explanation is made."""

from contextlib import closing

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from protos.explain.v1 import explanation_service_pb2 as api
from service.access import CallError
from service.client import Client


def show_stream(client: Client, request: api.ExplainRequest, console: Console) -> api.ExplainResponse:
    """Ask for an explanation and show a bar of its steps on a terminal.

    Raises:
        CallError: the service refuses, or ends the stream without a result.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[objective]}"),
        TimeElapsedColumn(),
    )
    events = client.stream_explain(api.StreamExplainRequest(request=request, preview=False))
    with closing(events), Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("waiting for the service", total=None, objective="")
        for event in events:
            match event.WhichOneof("event"):
                case "prediction":
                    bar.update(task, description=_first(event.prediction))
                case "progress":
                    step = event.progress
                    objective = f"objective {step.objective:.4g}" if step.HasField("objective") else ""
                    bar.update(task, completed=step.step, total=step.steps, objective=objective)
                case "result":
                    return event.result
    raise CallError("the service ended the stream without a result")


def _first(response: api.PredictResponse) -> str:
    """The most probable class, in words."""
    if not response.predictions:
        return "predicted"
    best = response.predictions[0]
    return f"{best.label} ({best.probability:.2f})"
