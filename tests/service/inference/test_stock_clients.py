"""Stock clients of the protocol, each in a process and an environment of its own."""

import asyncio
from pathlib import Path

import pytest

from tests.service.fakes import MODEL, front
from tests.service.inference.asking import whole
from tests.service.inference.stock.environment import PYTHON, SCRIPTS, needs_stock_clients
from tests.service.test_front import IMAGE


@needs_stock_clients
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
async def test_a_stock_client_lists_asks_and_infers(script: Path, tmp_path: Path) -> None:
    """Liveness, readiness, metadata, index, predictions, explanations, figures and errors."""
    image = tmp_path / "image.jpg"
    image.write_bytes(IMAGE)
    async with front() as service:
        service.worker.answer = whole
        program = (str(PYTHON), str(script), service.address, MODEL, str(image), "1")
        process = await asyncio.create_subprocess_exec(
            *program, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
