"""torchvision beside a torch that it was not built for. Each case needs a Python that has not imported it yet."""

import importlib.util
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(importlib.util.find_spec("torchvision") is None, reason="torchvision is not installed"),
]


def run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True)


def test_models_and_transforms_work_afterwards() -> None:
    """Also when it is called again, and after somebody's import without it failed."""
    run(
        "from handlers.torchvision_shim import ensure_operators\n"
        "try:\n    import torchvision\n"
        "except RuntimeError:\n    pass\n"
        "ensure_operators(); ensure_operators()\n"
        "import torchvision, torchvision.transforms\n"
        "torchvision.models.get_model('squeezenet1_1', weights=None)\n"
    )
