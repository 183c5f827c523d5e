"""A network to an ONNX file. Needs onnx and onnxscript."""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from explainers import Network
from runtimes.errors import ExportError
from runtimes.optional_maps import make_maps_optional
from runtimes.signature import INPUTS, KIND, LAYER, OUTPUTS
from runtimes.trace import Program, trace


def export(network: Network, path: Path, tags: Mapping[str, str]) -> None:
    """Write a network's prediction and fast map as one graph with dynamic batch (`runtimes.signature`).

    For a program of its own: while it traces, other threads must not compute.

    Args:
        network: on the CPU.
        path: of the file; replaced at the end.
        tags: kept in the file; whoever loads it compares them.

    Raises:
        ExportError: an operation of the network has no counterpart, or onnx or onnxscript is not installed.
    """
    try:
        program = trace(network)
        _write(program, path, {**tags, KIND: program.kind, LAYER: program.layer})
    except ModuleNotFoundError as error:
        raise ExportError(f"{error.name} is not installed: pip install 'whylight[export]'") from None
    except Exception as error:
        raise ExportError(f"the network cannot be exported: {type(error).__name__}: {_first_line(error)}") from error


def _write(program: Program, path: Path, tags: Mapping[str, str]) -> None:
    batch = torch.export.Dim("batch")
    targets = {0: batch, 1: torch.export.Dim("targets")} if program.kind == "cam" else {0: batch}
    with _quiet():
        exported = torch.export.export(
            program.module, program.inputs, dynamic_shapes=({0: batch}, targets), strict=False
        )
        graph = torch.onnx.export(exported, input_names=INPUTS, output_names=OUTPUTS, dynamo=True, verbose=False)
    assert graph is not None  # noqa: S101  # it is, without a file to write
    make_maps_optional(graph.model.graph)
    graph.model.metadata_props.update(tags)
    graph.model.producer_name = "whylight"
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        graph.save(draft, external_data=False)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch's remarks about its own ways out of the terminal."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _first_line(error: Exception) -> str:
    cause: BaseException = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    return str(cause).strip().partition("\n")[0]
