"""Small to send, large to read: refused with the right status, within a memory limit. More in benchmarks/bombs.py."""

import math
from collections.abc import Iterator

import pytest
from google.protobuf.descriptor import FieldDescriptor

from explainers import METHODS, specs
from handlers.describe import describe
from handlers.metrics import OFFERED
from handlers.worker import Worker
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import method_pb2, types_pb2
from protos.worker.v1 import worker_pb2
from service.catalog import Catalog, DeployedModel
from service.converters.to_command import to_explain_command
from service.errors import InvalidRequestError
from service.status_details import trailing_metadata
from tests.fuzz import requests, targets
from tests.fuzz.bombed import Bombed, bombed
from tests.fuzz.bombs import BOMBS
from tests.fuzz.message_bombs import MESSAGES, ask

# What takes a second or less to make, and to refuse.
QUICK = [
    "PNG, 2^31 x 2^31", "PNG, interlaced 16-bit RGBA, 20,000 x 20,000", "PNG, 1,000,000 text chunks",
    "JPEG, 65,535 x 65,535", "JPEG, 3,900,000 segments", "BMP, 2^31 x 2^31", "BMP, header of 4 GB",
    "WebP, canvas of 2^24 x 2^24", "TIFF behind a PNG's signature",
]  # fmt: skip
QUICK_MESSAGES = ["not compressed, 64 MiB", "1,000,000 targets", "a Struct of 10,000 levels"]
MOST = 256  # MiB that refusing may take
NOT_FINITE = (math.nan, math.inf, -math.inf)
FLOATS = (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE)


@pytest.fixture(scope="module")
def limited() -> Iterator[Bombed]:
    """A worker with a memory limit."""
    with bombed("worker") as process:
        process.said()
        yield process


@pytest.fixture(scope="module")
def limited_front() -> Iterator[tuple[Bombed, str]]:
    """A front with a memory limit, and its address."""
    with bombed("front") as process:
        yield process, process.said()


@pytest.mark.parametrize("name", QUICK)
def test_an_image_bomb_is_refused_within_the_limit(limited: Bombed, name: str) -> None:
    """By name, for little memory; and the same worker goes on."""
    make, allowed = BOMBS[name]
    image = worker_pb2.ImageWork(image=make(), top_k=1)
    with limited.measured() as costs:
        answer = worker_pb2.WorkResponse.FromString(
            limited.ask(worker_pb2.WorkRequest(image=image).SerializeToString())
        )
    assert answer.reason in allowed
    assert costs[0].mebibytes < MOST


@pytest.mark.parametrize("name", QUICK_MESSAGES)
def test_a_message_bomb_is_refused_within_the_limit(limited_front: tuple[Bombed, str], name: str) -> None:
    """The same of the front."""
    process, address = limited_front
    make, compression, expected = MESSAGES[name]
    with process.measured() as costs:
        assert ask(address, make(), compression) == expected
    assert costs[0].mebibytes < MOST


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Worker:
    return targets.tiny_worker(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def model(worker: Worker) -> DeployedModel:
    """As the front knows it."""
    catalog = Catalog()
    catalog.declare(requests.MODEL)
    catalog.set_state(requests.MODEL, types_pb2.MODEL_STATE_READY)
    catalog.describe(requests.MODEL, describe(worker.model))
    return catalog.get(requests.MODEL)


def float_parameters() -> list[tuple[str, str]]:
    """Every parameter of every method that is a float, from the descriptors."""
    return [
        (method.name, parameter.name)
        for method in method_pb2.Method.DESCRIPTOR.oneofs_by_name["method"].fields
        for parameter in method.message_type.fields
        if parameter.type in FLOATS
    ]


@pytest.mark.parametrize(("method", "parameter"), float_parameters())
def test_no_parameter_of_a_method_may_be_infinite_or_no_number(
    method: str, parameter: str, worker: Worker, model: DeployedModel
) -> None:
    """Named by the front, and, were it not, by the worker: INVALID_ARGUMENT with the field's path."""
    for value in NOT_FINITE:
        chosen = method_pb2.Method()
        setattr(getattr(chosen, method), parameter, value)
        with pytest.raises(InvalidRequestError) as caught:
            to_explain_command(api.ExplainRequest(image=b"x", method=chosen), model, 100)
        assert {each.field for each in caught.value.violations} == {f"method.{method}.{parameter}"}
        work = worker_pb2.ImageWork(image=requests.IMAGES[0], top_k=1, method=chosen)
        answer = worker_pb2.WorkResponse.FromString(
            worker.answer([worker_pb2.WorkRequest(image=work).SerializeToString()])[0]
        )
        assert answer.status == worker_pb2.WORK_STATUS_INVALID_ARGUMENT
        assert [each.field for each in answer.violations] == [f"method.{method}.{parameter}"]


def test_there_are_float_parameters() -> None:
    """The table above is not empty, and the registry has the same ones."""
    known = {(name, spec.name) for name, kind in METHODS.items() for spec in specs(kind) if spec.kind is float}
    assert set(float_parameters()) == known != set()


def test_no_parameter_of_a_metric_may_be_infinite_or_no_number(worker: Worker) -> None:
    """Whole numbers and others: a Struct has only one kind."""
    numbers = [(n, spec.name) for n, kind in OFFERED.items() for spec in specs(kind) if spec.kind in (int, float)]
    assert numbers
    for metric, parameter in numbers:
        for value in NOT_FINITE:
            work = worker_pb2.ImageWork(image=requests.IMAGES[0], top_k=1)
            work.method.grad_cam.SetInParent()
            work.quality.compare_with.grad_cam.SetInParent()
            work.quality.metrics.add(name=metric).parameters[parameter] = value
            answer = worker_pb2.WorkResponse.FromString(
                worker.answer([worker_pb2.WorkRequest(image=work).SerializeToString()])[0]
            )
            assert answer.status == worker_pb2.WORK_STATUS_INVALID_ARGUMENT, (metric, parameter, value)


def test_the_longest_refusal_fits_into_what_a_client_takes(model: DeployedModel) -> None:
    """gRPC takes 8 KiB of metadata for certain; above that the client would see another status."""
    request = api.ExplainRequest(top_k=0, output=api.OutputOptions(resolution=99, color_map=99, overlay_opacity=7))  # type: ignore[arg-type]
    request.targets.classes.classes.extend([api.ClassReference(label="none")] * 1000)
    for layers in (request.method.layer_cam.further_layers, request.quality.compare_with.layer_cam.further_layers):
        layers.extend([""] * 1000)
    for _ in range(1000):
        request.quality.metrics.add(name="none")
    with pytest.raises(InvalidRequestError) as caught:
        to_explain_command(request, model, 100)
    size = len(caught.value.message) + sum(len(key) + len(value) for key, value in trailing_metadata(caught.value))
    assert size < 8192 - 256  # gRPC's own entries
