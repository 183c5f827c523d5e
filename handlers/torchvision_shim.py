"""Makes torchvision importable beside a torch that it was not built for.

torchvision from PyPI is built for CUDA. Beside a CPU build of torch its compiled operators don't load, and its import
fails over two of them that no classifier uses. They are declared here, without an implementation.
"""

import importlib
import sys

import torch

_OPERATORS = ("nms", "qnms")
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
# The declarations last as long as this object.
_declared: list[torch.library.Library] = []


def ensure_operators() -> None:
    """Import torchvision, and declare the missing operators where the import fails over them. Safe to repeat.

    Raises:
        ImportError: torchvision is not installed.
        RuntimeError: it cannot be imported for another reason.
    """
    try:
        importlib.import_module("torchvision")
    except RuntimeError as error:
        if "torchvision::" not in str(error) or _declared:
            raise
        _declare()
        _forget_half_import()
        importlib.import_module("torchvision")


def _declare() -> None:
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for name in _OPERATORS:
        library.define(f"{name}{_SCHEMA}")  # type: ignore[no-untyped-call]
    _declared.append(library)


def _forget_half_import() -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]
