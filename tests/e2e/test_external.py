"""The service with a TorchServe that somebody else runs."""

from pathlib import Path

import grpc
import pytest

from model_store.archive import build_all
from model_store.manifest import DEFAULT_MANIFEST
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from service.launch import launched
from service.torchserve.java import find_java
from service.torchserve.supervisor import ServedModel, Supervisor, SupervisorOptions
from tests.e2e.test_service import explain

pytestmark = pytest.mark.e2e


async def test_models_of_a_torchserve_elsewhere_are_discovered(tmp_path: Path) -> None:
    """Given only addresses and the key file, the service finds the models and explains with them."""
    archive = build_all(DEFAULT_MANIFEST, tmp_path)[0]
    supervisor = Supervisor([ServedModel("digits-cnn", "1.0", archive)], SupervisorOptions(java=find_java(None)))
    await supervisor.start()
    try:
        settings = {
            "worker_inference_address": supervisor.endpoint.inference,
            "worker_management_address": supervisor.endpoint.management,
            "worker_key_file": supervisor.endpoint.key_file,
        }
        with launched(settings) as service:
            async with grpc.aio.insecure_channel(service.address) as channel:
                stub = api_grpc.ExplanationServiceStub(channel)
                models = (await stub.ListModels(api.ListModelsRequest())).models
                assert [model.name for model in models] == ["digits-cnn"]
                assert (await stub.Explain(explain())).explanations
    finally:
        await supervisor.stop()
