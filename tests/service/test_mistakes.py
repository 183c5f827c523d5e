"""What a person at the command line makes wrong, and is told."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from protos.explain.v1 import types_pb2
from service import cli
from tests.service.fakes import MODEL, Front, front


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image.png"
    path.write_bytes(b"any bytes: the worker decodes")
    return path


def run(*words: object, columns: int = 200) -> SimpleNamespace:
    done = CliRunner(env={"COLUMNS": str(columns)}).invoke(cli.app, [*map(str, words)])
    assert done.exception is None or isinstance(done.exception, SystemExit), "a traceback"
    return SimpleNamespace(code=done.exit_code, text=done.output)


async def ask(service: Front, *words: object, columns: int = 200) -> SimpleNamespace:
    return await asyncio.to_thread(run, *words, "--address", service.address, columns=columns)


@pytest.mark.parametrize("address", ["localhost", "http://localhost:50051"])
def test_an_address_is_host_and_port(address: str) -> None:
    """gRPC would take each for a name, or for port 443."""
    done = run("models", "--address", address)
    assert (done.code, done.text.startswith(f"{address} is no address of the service: write host:port")) == (1, True)


def test_nobody_at_the_address_is_said_with_the_address() -> None:
    """And how to start a service."""
    done = run("models", "--address", "127.0.0.1:1")
    assert done.code == 1
    assert "no service answers at 127.0.0.1:1" in done.text
    assert "whylight serve" in done.text


def test_a_file_without_a_certificate_is_said(image: Path) -> None:
    """gRPC would write to standard error, and the service seem to be away."""
    done = run("models", "--address", "localhost:1", "--tls-ca", image)
    assert (done.code, done.text.strip()) == (1, "no certificate in the file of the authorities: it must be PEM")


@pytest.mark.parametrize("command", [("explain", "IMAGE", "--model", MODEL), ("job", "wait", "x"), ("job", "get", "x")])
async def test_where_nothing_can_be_written_nothing_is_computed(command: tuple[str, ...], image: Path) -> None:
    """A folder that is not there ends the command at once."""
    words = [image if word == "IMAGE" else word for word in command]
    async with front() as service:
        done = await ask(service, *words, "-o", image.parent / "none" / "why.png")
        assert service.worker.requests == []
    assert done.code == 1
    assert "there is no folder" in done.text


async def test_a_picture_that_cannot_be_written_is_said(image: Path) -> None:
    """A folder where the file should be."""
    async with front() as service:
        original = service.worker.answer

        def drawn(request: object) -> object:
            response = original(request)  # type: ignore[arg-type]
            response.image.explanations.add(overlay_png=b"picture")
            return response

        service.worker.answer = drawn  # type: ignore[assignment]
        done = await ask(service, "explain", image, "--model", MODEL, "-o", image.parent)
    assert done.code == 1
    assert "cannot write" in done.text


@pytest.mark.parametrize(
    ("options", "texts"),
    [
        (["--model", "tinny"], ["NOT_FOUND", "`whylight models` lists them"]),
        (["--model", MODEL, "--target", "bird"], ["is no label", "`whylight models MODEL` shows them"]),
        (["--model", MODEL, "--quality", "x"], ["is no metric", "`whylight metrics` lists them"]),
        (["--model", MODEL, "--timeout", "0.05"], ["DEADLINE_EXCEEDED", "--timeout", "whylight job create"]),
    ],
)
async def test_the_way_on_is_a_command(options: list[str], texts: list[str], image: Path) -> None:
    """Not a procedure, which a person at the command line cannot call."""
    async with front() as service:
        service.worker.gate.clear()
        done = await ask(service, "explain", image, *options)
        service.worker.gate.set()
    assert done.code == 1
    for text in texts:
        assert text in done.text


async def test_what_grpc_itself_refuses_is_said_of_the_image(image: Path) -> None:
    """A request above the service's largest message."""
    await asyncio.to_thread(image.write_bytes, bytes(200_000))
    async with front(max_image_bytes=1024) as service:
        done = await ask(service, "explain", image, "--model", MODEL)
    assert (done.code, "the image is larger than the service takes" in done.text) == (1, True)


async def test_a_model_is_shown_with_its_labels_and_methods() -> None:
    """What --target and --method take."""
    async with front() as service:
        service.catalog.get(MODEL).known.layers.append(types_pb2.Layer(path="layer4", channels=8, height=7, width=7))
        done = await ask(service, "models", MODEL)
    assert done.code == 0
    for text in ("0: cat", "3: crane", "layer4 (8 x 7 x 7)", "grad_cam, layer_cam, rise", "it has no linear head"):
        assert text in done.text


async def test_names_are_whole_in_a_narrow_terminal(image: Path) -> None:
    """They are to be typed again."""
    async with front() as service:
        name = (await ask(service, "job", "create", image, "--model", MODEL)).text.strip()
        assert name in (await ask(service, "job", "list", columns=80)).text
        assert "layer_cam" in (await ask(service, "methods", columns=40)).text
