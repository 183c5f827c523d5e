"""What every command that asks for an explanation takes, and the request that it makes."""

from pathlib import Path
from typing import Annotated

import typer

from protos.explain.v1 import explanation_service_pb2 as api
from service.client import build_method, build_quality, build_targets

Image = Annotated[Path, typer.Argument(help="JPEG, PNG, WebP or BMP.")]
Model = Annotated[str, typer.Option(help="Name of a deployed model.")]
Method = Annotated[str, typer.Option(help="Saliency method.")]
Parameters = Annotated[list[str] | None, typer.Option("--parameter", "-p", help="name=value of the method.")]
Targets = Annotated[list[str] | None, typer.Option(help="Class index or label; may be repeated.")]
TopK = Annotated[int | None, typer.Option(help="Explain the k most probable classes.")]
Quality = Annotated[
    list[str] | None, typer.Option(help="Metric to compute, name or name:parameter=value,...; may be repeated.")
]
CompareWith = Annotated[str | None, typer.Option(help="Second method, name or name:parameter=value,...")]
DEFAULT_METHOD = "grad_cam"


def build_request(
    image: Path,
    model: str,
    method: str,
    parameter: list[str] | None,
    target: list[str] | None,
    top_k: int | None,
    quality: list[str] | None,
    compare_with: str | None,
) -> api.ExplainRequest:
    """The request; arguments as the options above.

    Raises:
        CallError: there is no such method or parameter, or a text is no such value.
        OSError: the image cannot be read.
    """
    return api.ExplainRequest(
        model=model,
        image=image.read_bytes(),
        method=build_method(method, parameter or []),
        targets=build_targets(target or [], top_k),
        quality=build_quality(quality or [], compare_with),
    )
