"""Reads a `.pt2` export as a module whose submodules can be found by path, without unpickling anything."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

_FORCE_WEIGHTS_ONLY = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
# A program with plain tensors has only these. Others hold pickled objects or compiled libraries.
_HARMLESS = re.compile(
    r"archive_format|archive_version|byteorder|\.data/[a-z_]+|\.format_version|\.storage_alignment"
    r"|models/\w+\.json|data/sample_inputs/\w+\.pt"
    r"|data/weights/(weight_\d+|\w+_weights_config\.json)"
    r"|data/constants/(tensor_\d+|\w+_constants_config\.json)"
)


class UnsafeExportError(RuntimeError):
    """The export holds more than a program and plain tensors."""


def load_export(path: Path, device: torch.device) -> nn.Module:
    """The exported network on `device`, in the mode in which it was exported.

    Raises:
        UnsafeExportError: reading it would run code or unpickle objects.
        RuntimeError: it cannot be read.
    """
    refuse_code(path)
    with _weights_only():
        program = torch.export.load(path)
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    return torch.export.unflatten(program)


def refuse_code(path: Path) -> None:
    """Check every record of the archive against what a program with plain tensors consists of.

    torch.export.load runs whatever else is there: it loads compiled libraries and unpickles custom objects.

    Raises:
        UnsafeExportError: there is something else, or this is no archive at all.
    """
    from torch.export.pt2_archive._package import PT2ArchiveReader  # the parser that will read it

    try:
        records = PT2ArchiveReader(os.fspath(path)).get_file_names()
    except (RuntimeError, AssertionError):
        raise UnsafeExportError("not a .pt2 archive of torch.export.save") from None
    if strangers := [record for record in records if not _HARMLESS.fullmatch(record)]:
        raise UnsafeExportError(f"the export holds {strangers[0]!r}: only programs with plain tensors are read")


@contextmanager
def _weights_only() -> Iterator[None]:
    """torch.export.load falls back to unpickling when `weights_only` refuses a file; this takes that away from it."""
    before = os.environ.get(_FORCE_WEIGHTS_ONLY)
    os.environ[_FORCE_WEIGHTS_ONLY] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_FORCE_WEIGHTS_ONLY]
        else:
            os.environ[_FORCE_WEIGHTS_ONLY] = before
