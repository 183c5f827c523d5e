"""The command `whylight evaluate`. Only what needs no network is imported before it runs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from evaluation.errors import EvaluationError, UsageError

INTERRUPTED = 130
WORKER_EXTRA = "evaluation needs the networks: pip install 'whylight[worker]'"

err = Console(stderr=True)


class Target(StrEnum):
    """Which class of an image is explained."""

    LABEL = "label"
    PREDICTED = "predicted"


def evaluate(
    model: Annotated[str, typer.Option(help="Name of a model of the manifest, or of the service.")],
    data: Annotated[str, typer.Option(help="Folder with images (see --format), or digits, or digits-single.")],
    methods: Annotated[
        list[str] | None,
        typer.Option(help="Methods between commas: grad_cam,opti_cam:preset=fast. Default: all that work."),
    ] = None,
    metrics: Annotated[
        list[str] | None, typer.Option(help="Metrics between commas: average_drop,insertion:steps=56.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for results; a run that was cut off goes on there.")] = Path(
        "evaluation"
    ),
    manifest: Annotated[Path | None, typer.Option(help="The models; default: those that come with Whylight.")] = None,
    server: Annotated[str | None, typer.Option(help="host:port of a service that explains, instead of here.")] = None,
    layout: Annotated[
        str, typer.Option("--format", help="voc, coco, catalogue, masks or folders; default: found by looking.")
    ] = "",
    annotations: Annotated[Path | None, typer.Option(help="COCO's JSON file, where there are several.")] = None,
    classes: Annotated[Path | None, typer.Option(help="JSON from names in the data to classes of the model.")] = None,
    target: Annotated[Target, typer.Option(help="Explain the classes in the data, or the predicted one.")] = (
        Target.LABEL
    ),
    compare_with: Annotated[
        str | None, typer.Option(help="The other method, for metrics that compare two maps.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many images.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Which ones, if there are more.")] = 0,
    batch: Annotated[int, typer.Option(min=1, max=1024, help="Images at once.")] = 8,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda; not with --server.")] = "auto",
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw away what is in the output folder.")] = False,
) -> None:
    """Explain images by each method, measure the maps by each metric, and write tables and a picture."""
    try:
        from evaluation.session import Request, evaluate_request
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is not installed; {WORKER_EXTRA}", 1)
    request = Request(
        model=model,
        data=data,
        methods=tuple(methods or ()),
        metrics=tuple(metrics or ()),
        output=output,
        manifest=manifest,
        server=server,
        layout=layout,
        annotations=annotations,
        classes=classes,
        target=target.value,
        compare_with=compare_with,
        limit=limit,
        seed=seed,
        batch=batch,
        device=device,
        fresh=fresh,
    )
    try:
        evaluate_request(request, Console(), err)
    except UsageError as error:
        _fail(str(error), 2)
    except EvaluationError as error:
        _fail(str(error), 1)
    except KeyboardInterrupt:
        err.print("stopped; the same command goes on from here", highlight=False)
        raise typer.Exit(INTERRUPTED) from None


def _fail(text: str, status: int) -> NoReturn:
    err.print(text, style="red", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(status)
