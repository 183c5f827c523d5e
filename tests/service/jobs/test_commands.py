"""`whylight job ...` against a service that answers in process."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from protos.worker.v1 import worker_pb2
from service import cli
from tests.service.fakes import Front, front, prediction


async def whylight(service: Front, *words: object) -> SimpleNamespace:
    """Run the command beside the service."""
    runner = CliRunner(env={"COLUMNS": "250"})
    done = await asyncio.to_thread(runner.invoke, cli.app, [*map(str, words), "--address", service.address])
    return SimpleNamespace(code=done.exit_code, out=done.stdout, err=done.stderr)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file; nobody decodes it here."""
    path = tmp_path / "image.png"
    path.write_bytes(b"any bytes")
    return path


def drawn(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
    """An answer with a picture where one is asked for."""
    response = prediction(request)
    response.image.explanations.add(target={"index": 1, "label": "dog"})
    if request.image.output.overlay_png:
        response.image.explanations[0].overlay_png = b"picture"
    return response


async def test_a_job_from_its_creation_to_its_end(image: Path, tmp_path: Path) -> None:
    """Create prints the name; wait shows the answer; get writes the picture; delete forgets it."""
    async with front() as service:
        service.worker.answer = drawn
        words = ("job", "create", image, "--model", "tiny", "--overlay", "--request-id", "r1", "--timeout", 20)
        made = await whylight(service, *words)
        name = made.out.strip()
        assert (made.code, name[:11]) == (0, "operations/")
        assert (await whylight(service, *words)).out.strip() == name
        ended = await whylight(service, "job", "wait", name)
        assert ended.code == 0, ended.err
        assert "dog" in ended.out
        shown = await whylight(service, "job", "get", name, "-o", tmp_path / "overlay.png")
        assert shown.code == 0, shown.err
        assert (tmp_path / "overlay.png").read_bytes() == b"picture"
        row = next(line for line in (await whylight(service, "job", "list", "--done")).out.splitlines() if name in line)
        assert "succeeded" in row
        assert "r1" in row
        assert name not in (await whylight(service, "job", "list", "--not-done")).out
        assert (await whylight(service, "job", "delete", name)).code == 0
        gone = await whylight(service, "job", "get", name)
        assert (gone.code, gone.err.splitlines()[0]) == (1, "NOT_FOUND: no such operation")
        assert "whylight job list" in gone.err


async def test_a_job_that_runs_and_is_cancelled(image: Path) -> None:
    """Get says how far it is; after the cancel it and wait end with 1 and the reason."""
    async with front() as service:
        service.worker.gate.clear()
        name = (await whylight(service, "job", "create", image, "--model", "tiny")).out.strip()
        async with asyncio.timeout(5):
            while not service.worker.requests:
                await asyncio.sleep(0.01)
        shown = await whylight(service, "job", "get", name)
        assert (shown.code, shown.out.strip()) == (0, "running")
        assert (await whylight(service, "job", "cancel", name)).code == 0
        ended = await whylight(service, "job", "wait", name)
        assert ended.code == 1
        assert "CANCELLED: the job was cancelled" in ended.err


async def test_a_mistake_ends_with_a_sentence(image: Path) -> None:
    """Before or after the service is asked."""
    async with front() as service:
        missing = await whylight(service, "job", "create", image.with_name("none.png"), "--model", "tiny")
        assert (missing.code, "cannot read the image" in missing.err) == (1, True)
        unknown = await whylight(service, "job", "create", image, "--model", "other")
        assert (unknown.code, unknown.err.startswith("NOT_FOUND")) == (1, True)
        refused = await whylight(service, "job", "create", image, "--model", "tiny", "--ttl", 1)
        assert (refused.code, "ttl: must be between 60 s and 86400 s" in refused.err) == (1, True)
