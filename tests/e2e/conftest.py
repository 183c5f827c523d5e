"""One running service for all end-to-end tests: client -> gRPC -> TorchServe -> handler and back."""

from collections.abc import Iterator

import grpc
import pytest

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
