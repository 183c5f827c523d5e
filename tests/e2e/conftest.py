"""The running services of all end-to-end tests: client -> gRPC -> TorchServe -> handler and back."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from model_store.manifest import DEFAULT_MANIFEST
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from service.launch import Launched, launched


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    """The service with the default models, in a process of its own; only the first one has lanes."""
    with launched({"manifest": models(tmp_path_factory.mktemp("service"), lanes=1)}) as running:
        yield running


@pytest.fixture(scope="package")
def channel(service: Launched) -> Iterator[grpc.Channel]:
    """A channel to the service."""
    with grpc.insecure_channel(service.address, [("grpc.max_receive_message_length", -1)]) as channel:
        yield channel


@pytest.fixture(scope="package")
def stub(channel: grpc.Channel) -> api_grpc.ExplanationServiceStub:
    """The public API."""
    return api_grpc.ExplanationServiceStub(channel)  # type: ignore[no-untyped-call]


@pytest.fixture(scope="package")
def sampled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Launched]:
    """A second service, with one of the default models, that measures the quality of every explanation."""
    settings = {
        "manifest": one_model(tmp_path_factory.mktemp("sampled")),
        "quality_share": 1.0,
        "quality_budget": 1.0,
    }
    with launched(settings) as running:
        yield running


def one_model(folder: Path, *, lanes: int = 0) -> Path:
    """A manifest of the first default model alone; its files stay where they are. Arguments as for `models`."""
    return models(folder, 1, lanes=lanes)


def models(folder: Path, count: int = 2, *, lanes: int = 0) -> Path:
    """A manifest of the first `count` default models; its files stay where they are.

    The first `lanes` of them have lanes, as all do by default. Of the others one worker does everything: it starts
    sooner.
    """
    head, *tables = DEFAULT_MANIFEST.read_text().split("[[models]]")
    serving = "[models.serving]\n"
    tables[lanes:] = [
        table.replace(serving, f"{serving}fast_workers = 0\nslow_workers = 0\n") for table in tables[lanes:]
    ]
    text = "[[models]]".join([head, *tables[:count]])
    for relative in ("digits/", "weights/"):
        text = text.replace(relative, f"{DEFAULT_MANIFEST.parent}/{relative}")
    manifest = folder / "models.toml"
    manifest.write_text(text)
    return manifest
