"""No log line and no error text holds what a client sent, a path, or a traceback."""

import logging
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import method_pb2, quality_pb2
from protos.worker.v1 import worker_pb2
from service.torchserve.client import ModelWorkers
from tests.service.fakes import MODEL, Front, front
from tests.service.identity.people import entry, write_clients
from tests.service.test_front import IMAGE, explain

MARK = "Zzyzx-Jane-Doe-1970"
TOKEN = "token-viewer"  # noqa: S105 - a test's
API = "/explain.v1.ExplanationService"
PLACES = (str(Path(__file__).parents[3]), sys.prefix, tempfile.gettempdir())
TRACES = (MARK, TOKEN, "Traceback", 'File "', '.py"', "site-packages", "/home", "/usr", *PLACES)

Drive = Callable[[Front], Awaitable[object]]


def raising(error: Exception) -> Drive:
    async def drive(service: Front) -> None:
        service.worker.error = error
        await service.stub.Explain(explain(), metadata=metadata())

    return drive


def answering(**fields: object) -> Drive:
    async def drive(service: Front) -> None:
        service.worker.answer = lambda request: worker_pb2.WorkResponse(**fields)  # type: ignore[arg-type]
        await service.stub.Explain(explain(), metadata=metadata())

    return drive


def sending(procedure: str, request: object) -> Drive:
    return lambda service: getattr(service.stub, procedure)(request, metadata=metadata())


def shouting(*extra: tuple[str, str | bytes]) -> Drive:
    return lambda service: service.stub.ListModels(api.ListModelsRequest(), metadata=extra)


def metadata() -> tuple[tuple[str, str | bytes], ...]:
    return (
        ("authorization", f"Bearer {TOKEN}"),
        ("x-request-id", f"{MARK} with a space"),
        ("user", MARK),
        ("patient-bin", MARK.encode()),
    )


def garbage(procedure: str) -> Drive:
    """Bytes that are no message."""
    return lambda service: service.channel.unary_unary(f"{API}/{procedure}")(
        b"\xff" + MARK.encode(), metadata=metadata()
    )


async def reflect(service: Front) -> None:
    async def ask() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(file_containing_symbol=MARK)
        yield reflection_pb2.ServerReflectionRequest(file_by_filename=f"/{MARK}/a.proto")

    stub = reflection_pb2_grpc.ServerReflectionStub(service.channel)
    async for _ in stub.ServerReflectionInfo(ask(), metadata=metadata()):
        pass
    await service.channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")(
        iter([b"\xff" + MARK.encode()]), metadata=metadata()
    ).read()


async def foreign_worker(service: Front) -> None:
    """A worker whose answer is no message, for a model with a telling name."""
    service.worker.workers = {MODEL: ModelWorkers(MODEL, ready=0, total=1, versions=(MARK,))}
    await service.monitor.look()
    await service.stub.Explain(explain(), metadata=metadata())


DRIVES: dict[str, Drive] = {
    "model name": sending("Explain", explain(model=MARK)),
    "model of GetModel": sending("GetModel", api.GetModelRequest(model=MARK)),
    "model of ListMethods": sending("ListMethods", api.ListMethodsRequest(model=MARK)),
    "version": sending("Explain", explain(model_version=MARK)),
    "label": sending(
        "Explain", explain(targets=api.Targets(classes=api.ClassList(classes=[api.ClassReference(label=MARK)])))
    ),
    "layer": sending("Explain", explain(method=method_pb2.Method(grad_cam=method_pb2.GradCam(layer=MARK * 20)))),
    "metric": sending(
        "Explain", explain(quality=quality_pb2.QualityOptions(metrics=[quality_pb2.MetricChoice(name=MARK)]))
    ),
    "large image": sending("Predict", api.PredictRequest(model=MODEL, image=MARK.encode() * 100)),
    "absurd image": sending("Predict", api.PredictRequest(model=MODEL, image=MARK.encode() * 10_000)),
    "token": shouting(("authorization", f"Bearer {MARK}")),
    "scheme": shouting(("authorization", f"{MARK} {MARK}")),
    "metadata": shouting(("user", MARK), ("patient-bin", MARK.encode())),
    "path": lambda service: service.channel.unary_unary(f"{API}/{MARK}")(b"", metadata=metadata()),
    "health": lambda service: health_pb2_grpc.HealthStub(service.channel).Check(
        health_pb2.HealthCheckRequest(service=MARK)
    ),
    "reflection": reflect,
    "garbage": garbage("Explain"),
    "garbage to health": lambda service: service.channel.unary_unary("/grpc.health.v1.Health/Check")(
        b"\xff" + MARK.encode()
    ),
    "garbage to health's stream": lambda service: service.channel.unary_stream("/grpc.health.v1.Health/Watch")(
        b"\xff" + MARK.encode()
    ).read(),
    "our fault": raising(RuntimeError(f"/home/{MARK}.png")),
    "our fault with a cause": raising(OSError(2, "No such file", f"/home/{MARK}.png")),
    "group of faults": raising(ExceptionGroup(MARK, [KeyError(MARK)])),
    "worker's fault": answering(status=worker_pb2.WORK_STATUS_INTERNAL, message=MARK, reason=MARK),
    "worker's unknown status": answering(status=99, message=MARK),
    "no worker": foreign_worker,
}


@pytest.mark.parametrize("name", DRIVES)
async def test_what_a_client_sent_is_in_no_log_and_no_error(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Every way to fail, each with a marker in it: the marker comes back in no text, at any level of the log."""
    folder = tmp_path / MARK
    folder.mkdir()
    path = write_clients(folder / "clients.toml", entry("viewer", "explain"))
    texts = []
    with caplog.at_level(logging.DEBUG):
        async with front(clients_file=path, max_image_bytes=1024) as service:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await DRIVES[name](service)
            texts.append(caught.value.details() or "")
            texts += [
                f"{key}={value!r}"
                for found in (caught.value.trailing_metadata(), caught.value.initial_metadata())
                for key, value in found or ()
            ]
    written = capfd.readouterr()
    texts += [caplog.text, written.out, written.err]
    for text in texts:
        for trace in TRACES:
            assert trace not in text, text


@pytest.mark.parametrize(
    ("given", "status"),
    [((), grpc.StatusCode.UNAUTHENTICATED), (metadata(), grpc.StatusCode.INVALID_ARGUMENT)],
    ids=["nobody", "a client"],
)
async def test_credentials_come_before_parsing(
    given: tuple[tuple[str, str | bytes], ...], status: grpc.StatusCode, tmp_path: Path
) -> None:
    """Bytes that are no message are INVALID_ARGUMENT for a client; of nobody not even the parser sees them."""
    path = write_clients(tmp_path / "clients.toml", entry("viewer", "explain"))
    async with front(clients_file=path) as service:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.channel.unary_unary(f"{API}/Explain")(b"\xff", metadata=given)
        assert caught.value.code() is status


async def test_a_successful_call_leaves_no_trace_of_its_image_either(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The line of a request has its id, procedure, client, model, method, status and time; nothing of what was sent."""
    path = write_clients(tmp_path / "clients.toml", entry("viewer", "explain"))
    with caplog.at_level(logging.DEBUG):
        async with front(clients_file=path) as service:
            await service.stub.Explain(explain(image=MARK.encode() + IMAGE), metadata=metadata())
    assert MARK not in caplog.text
    assert TOKEN not in caplog.text
    lines = [record.getMessage() for record in caplog.records if " Explain " in record.getMessage()]
    assert len(lines) == 1
    assert " client=viewer model=tiny method=grad_cam code=OK " in lines[0]
