"""What the command line shows of the deployed models."""

from collections.abc import Iterable

from rich.console import Console
from rich.table import Column, Table

from protos.explain.v1 import types_pb2


def models_table(models: Iterable[types_pb2.Model]) -> Table:
    """One row for each model."""
    table = Table(Column("name", no_wrap=True), "version", "state", "classes", "target layer", "description")
    for model in models:
        table.add_row(
            model.name,
            model.version,
            _state(model),
            str(model.class_count),
            _layer(model.target_layer),
            model.description,
        )
    return table


def show_model(model: types_pb2.Model, console: Console) -> None:
    """One model with its labels, its layers, and which methods work on it."""
    supported = [each.method for each in model.methods if each.supported]
    labels = [f"{index}: {label}" for index, label in enumerate(model.labels)]
    table = Table("", "", show_header=False)
    for name, value in (
        ("name", f"{model.name} {model.version}, {_state(model)}"),
        ("description", model.description),
        ("architecture", model.architecture),
        ("weights", model.weights_digest),
        ("image", f"{model.input_height} x {model.input_width}" if model.input_height else ""),
        ("device", f"{model.device}, {model.arithmetic}" if model.device else ""),
        ("labels", "\n".join(labels)),
        ("layers", "\n".join(map(_layer, model.layers))),
        ("target layer", _layer(model.target_layer)),
        ("methods", ", ".join(supported)),
        *((f"not {each.method}", each.reason) for each in model.methods if not each.supported),
    ):
        table.add_row(name, value)
    console.print(table, highlight=False, markup=False)


def _state(model: types_pb2.Model) -> str:
    return types_pb2.ModelState.Name(model.state).removeprefix("MODEL_STATE_").lower()


def _layer(layer: types_pb2.Layer) -> str:
    return f"{layer.path} ({layer.channels} x {layer.height} x {layer.width})" if layer.path else ""
