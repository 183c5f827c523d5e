"""The running services of all end-to-end tests: client -> gRPC -> TorchServe -> handler and back."""

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from model_store.manifest import DEFAULT_MANIFEST
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from service.launch import Launched, launched


@pytest.fixture(scope="package")
def service() -> Iterator[Launched]:
    """The service with the default models, in a process of its own."""
    with launched() as running:
        yield running


@pytest.fixture(scope="package")
def channel(service: Launched) -> Iterator[grpc.Channel]:
    """A channel to the service."""
    with grpc.insecure_channel(service.address, [("grpc.max_receive_message_length", -1)]) as channel:
        yield channel


@pytest.fixture(scope="package")
def stub(channel: grpc.Channel) -> api_grpc.ExplanationServiceStub:
    """The public API."""
    return api_grpc.ExplanationServiceStub(channel)


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


def one_model(folder: Path) -> Path:
    """A manifest of the first default model alone; its files stay where they are."""
    head, first = DEFAULT_MANIFEST.read_text().split("[[models]]")[:2]
    for relative in ("digits/", "weights/"):
        first = first.replace(relative, f"{DEFAULT_MANIFEST.parent}/{relative}")
    manifest = folder / "models.toml"
    manifest.write_text(f"{head}[[models]]{first}")
    return manifest
