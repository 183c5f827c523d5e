"""The commands `whylight model add`, `list` and `remove`. Only what needs no torch is imported before they run."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Column, Table

from model_store.errors import ModelStoreError
from model_store.manifest import load_manifest
from model_store.schema import Architecture
from onboarding.errors import OnboardingError

if TYPE_CHECKING:
    from onboarding.add import Added

WORKER_EXTRA = "`whylight model` needs the networks: pip install 'whylight[worker]'"

model = typer.Typer(help="Add models to a manifest, list and remove them.", no_args_is_help=True)
out = Console()
err = Console(stderr=True)

Manifest = Annotated[Path, typer.Option(help="The manifest; `add` makes one if there is none.")]
MANIFEST = Path("models.toml")
Store = Annotated[Path | None, typer.Option(help="Folder for archives; default: that of the manifest.")]


class Activation(StrEnum):
    """Of the head."""

    SOFTMAX = "softmax"
    SIGMOID = "sigmoid"


class Resize(StrEnum):
    """How images get the size of the input."""

    SQUASH = "squash"
    CROP = "crop"


class Interpolation(StrEnum):
    """Filter of the resize."""

    BILINEAR = "bilinear"
    BICUBIC = "bicubic"


@model.command()
def add(
    name: Annotated[str, typer.Argument(help="What clients call it.")],
    arch: Annotated[
        str, typer.Option(help="torchvision:NAME, timm:NAME, python:FILE.py:CALLABLE, pt2:FILE or onnx:FILE.")
    ],
    weights: Annotated[Path | None, typer.Option(help=".safetensors, .pt or .pth with a plain state dict.")] = None,
    pretrained: Annotated[bool, typer.Option("--pretrained", help="The library's own download.")] = False,
    manifest: Manifest = MANIFEST,
    store: Store = None,
    labels: Annotated[Path | None, typer.Option(help="Names of the classes: a text or JSON file.")] = None,
    argument: Annotated[list[str] | None, typer.Option(help="KEY=VALUE for the constructor; again for more.")] = None,
    version: Annotated[str, typer.Option(help="Answers carry it.")] = "1",
    description: Annotated[str, typer.Option(help="One line for people.")] = "",
    activation: Annotated[Activation, typer.Option(help="Of the head.")] = Activation.SOFTMAX,
    target_layer: Annotated[str, typer.Option(help="Module path to explain (onnx: tensor); default: found.")] = "",
    size: Annotated[str, typer.Option(help="SIDE or HEIGHTxWIDTH; this and the next: default the model's own.")] = "",
    resize: Annotated[Resize | None, typer.Option(help="crop cuts the middle out.")] = None,
    short_side: Annotated[int | None, typer.Option(min=1, help="For crop: the shorter side before it.")] = None,
    interpolation: Annotated[Interpolation | None, typer.Option(help="Filter of the resize.")] = None,
    mean: Annotated[str, typer.Option(help="R,G,B of pixels in [0, 1].")] = "",
    std: Annotated[str, typer.Option(help="R,G,B.")] = "",
    image: Annotated[Path | None, typer.Option(help="Explained as a check; default: noise.")] = None,
) -> None:
    """Check a model, write its entry into the manifest, and build its archive. If it fails, nothing is left behind."""
    try:
        from onboarding.add import add_model
        from onboarding.request import AddRequest, parse_arguments
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is not installed; {WORKER_EXTRA}")
    texts = {"version": version, "description": description, "target_layer": target_layer}
    entry = {key: value for key, value in texts.items() if value}
    if activation is not Activation.SOFTMAX:
        entry["activation"] = activation.value
    preprocessing = {
        "size": _size(size) if size else None,
        "resize": resize and resize.value,
        "short_side": short_side,
        "interpolation": interpolation and interpolation.value,
        "mean": _channels("--mean", mean) if mean else None,
        "std": _channels("--std", std) if std else None,
    }
    try:
        request = AddRequest(
            name=name,
            source=_source(arch),
            manifest=manifest,
            store=store or manifest.parent,
            weights=weights,
            pretrained=pretrained,
            arguments=parse_arguments(argument or ()),
            labels=labels,
            entry=entry,
            preprocessing={key: value for key, value in preprocessing.items() if value is not None},
            image=image,
        )
        added = add_model(request)
    except OnboardingError as error:
        _fail(str(error))
    out.print(_report(name, added))
    _say_written(manifest, *added.files, added.archive)


@model.command("list")
def list_models(manifest: Manifest = MANIFEST) -> None:
    """List the models of a manifest."""
    titles = "name", "version", "architecture", "activation", "size", "description"
    table = Table(*(Column(title, overflow="fold") for title in titles))  # cut short, none could be copied
    try:
        entries = load_manifest(manifest).models
    except ModelStoreError as error:
        _fail(str(error))
    for entry in entries:
        size = " x ".join(map(str, entry.preprocessing.size))
        table.add_row(entry.name, entry.version, entry.source.text, entry.activation, size, entry.description)
    out.print(table)


@model.command()
def export(
    name: Annotated[str, typer.Argument(help="Of the model.")], manifest: Manifest = MANIFEST, store: Store = None
) -> None:
    """Export a model's prediction and Grad-CAM as one graph, which ONNX Runtime then computes in torch's place."""
    try:
        from onboarding.export import export_model
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is not installed; {WORKER_EXTRA}")
    try:
        exported = export_model(name, manifest, store or manifest.parent)
    except OnboardingError as error:
        _fail(str(error))
    table = Table("", name, show_header=True)
    table.add_row("explained layer", exported.layer)
    table.add_row("in one run", "CAM, Grad-CAM of any classes" if exported.any_number else "Grad-CAM of one class")
    times = (exported.torch_seconds, exported.onnx_seconds)
    table.add_row("torch, ONNX Runtime", " ms, ".join(f"{1e3 * each:.1f}" for each in times) + " ms")
    out.print(table)
    _say_written(manifest, exported.graph, exported.archive)


@model.command()
def remove(
    name: Annotated[str, typer.Argument(help="Of the model.")], manifest: Manifest = MANIFEST, store: Store = None
) -> None:
    """Take a model's entry out of the manifest and delete its archive; its weights and labels stay."""
    try:
        from onboarding.remove import remove_model
    except ModuleNotFoundError as error:
        _fail(f"{error.name} is not installed; {WORKER_EXTRA}")
    try:
        remove_model(name, manifest, store or manifest.parent)
    except (OnboardingError, ModelStoreError) as error:
        _fail(str(error))
    out.print(f"removed {name} from {manifest.name}", highlight=False, markup=False)


def _report(name: str, added: "Added") -> Table:
    """What was found out about a model that was added."""
    checked = added.checked
    table = Table("", name, show_header=True)
    table.add_row("preprocessing", added.origin)
    table.add_row("classes", str(checked.class_count))
    layer = checked.layer
    described = f"{layer.path} ({layer.channels} x {layer.height} x {layer.width})" if layer else "none"
    table.add_row("target layer", described)
    table.add_row("CAM = Grad-CAM", "yes" if checked.cam else "no")
    table.add_row("methods that work", ", ".join(checked.methods))
    table.add_row("explained an image as", checked.predicted + (" (constant map)" if checked.degenerate else ""))
    times = " ms, ".join(f"{1e3 * each:.0f}" for each in checked.seconds)
    table.add_row(f"prediction, {checked.method}", f"{times} ms")
    return table


def _say_written(manifest: Path, *files: Path) -> None:
    for path in files:
        out.print(f"wrote {path.name}", highlight=False, markup=False)
    out.print(f"added to {manifest.name}; a running service takes it in when it is started again", markup=False)


def _source(text: str) -> Architecture:
    try:
        return Architecture.parse(text)
    except ValueError as error:
        raise OnboardingError(f"--arch {error}") from None


def _size(text: str) -> list[int]:
    sides = text.lower().split("x")
    if not all(side.isdecimal() for side in sides) or len(sides) > 2:
        _fail(f"--size {text}: must be a side, or HEIGHTxWIDTH")
    return [int(side) for side in (sides * 2)[:2]]


def _channels(option: str, text: str) -> list[float]:
    try:
        red, green, blue = map(float, text.split(","))
    except ValueError:
        _fail(f"{option} {text}: must be three numbers between commas")
    return [red, green, blue]


def _fail(text: str) -> NoReturn:
    err.print(text, style="red", highlight=False, markup=False, soft_wrap=True)
    raise typer.Exit(1)
