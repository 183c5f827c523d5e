"""What the service says of itself in the Open Inference Protocol, and by reflection."""

import asyncio
import subprocess
import sys

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos.inference import inference_service_pb2 as oip
from service.torchserve.client import ModelWorkers
from tests.service.fakes import MODEL, front
from tests.service.inference.asking import ask, stub_of
from tests.service.test_front import details, refused


async def test_live_and_ready() -> None:
    """Ready is what the health service says, too; it ends when the service begins to shut down."""
    async with front() as service:
        stub = stub_of(service)
        assert (await stub.ServerLive(oip.ServerLiveRequest())).live
        assert (await stub.ServerReady(oip.ServerReadyRequest())).ready
        assert (await stub.ModelReady(oip.ModelReadyRequest(name=MODEL, version="1.0"))).ready
        service.worker.workers = {MODEL: ModelWorkers(MODEL, ready=0, total=1, versions=("1.0",))}
        await service.monitor.look()
        assert not (await stub.ServerReady(oip.ServerReadyRequest())).ready
        assert not (await stub.ModelReady(oip.ModelReadyRequest(name=MODEL))).ready


async def test_a_service_that_shuts_down_is_not_ready_and_refuses() -> None:
    """It lives on until it has answered what it accepted."""
    async with front() as service:
        stub = stub_of(service)
        service.worker.gate.clear()
        call = stub.ModelInfer(ask())
        while not service.worker.requests:
            await asyncio.sleep(0.001)
        end = asyncio.create_task(service.drain.finish(10))
        await asyncio.sleep(0)
        assert not (await stub.ServerReady(oip.ServerReadyRequest())).ready
        assert (await stub.ServerLive(oip.ServerLiveRequest())).live
        error = await refused(stub.ModelInfer(ask()))
        service.worker.gate.set()
        assert (await call).model_name == MODEL
        assert await end == 0
    assert details(error)["ErrorInfo"].reason == "DRAINING"  # type: ignore[attr-defined]


async def test_metadata_name_the_tensors() -> None:
    """Images go in; prediction and explanation come out, with the sizes that every request has."""
    async with front() as service:
        server = await stub_of(service).ServerMetadata(oip.ServerMetadataRequest())
        model = await stub_of(service).ModelMetadata(oip.ModelMetadataRequest(name=MODEL, version="1.0"))
    assert server.name == "whylight"
    assert (model.name, list(model.versions), model.platform) == (MODEL, ["1.0"], "whylight")
    assert [(each.name, each.datatype, list(each.shape)) for each in model.inputs] == [("image", "BYTES", [-1])]
    assert [(each.name, each.datatype, list(each.shape)) for each in model.outputs] == [
        ("probabilities", "FP32", [-1, -1]),
        ("logits", "FP32", [-1, -1]),
        ("classes", "INT64", [-1, -1]),
        ("labels", "BYTES", [-1, -1]),
        ("saliency", "FP32", [-1, -1, -1, -1]),
        ("targets", "INT64", [-1, -1]),
        ("map_to_image", "FP64", [-1, -1, 2, 3]),
    ]


@pytest.mark.parametrize(("name", "version"), [("x", ""), (MODEL, "9")])
async def test_unknown_models_are_not_found(name: str, version: str) -> None:
    """Neither their metadata nor whether they are ready."""
    async with front() as service:
        for call in (
            stub_of(service).ModelMetadata(oip.ModelMetadataRequest(name=name, version=version)),
            stub_of(service).ModelReady(oip.ModelReadyRequest(name=name, version=version)),
        ):
            assert (await refused(call)).code() is grpc.StatusCode.NOT_FOUND


async def test_the_index_lists_the_models_and_their_states() -> None:
    """All of them, or those that are ready."""
    async with front() as service:
        service.catalog.declare("later")
        everything = await stub_of(service).RepositoryIndex(oip.RepositoryIndexRequest())
        ready = await stub_of(service).RepositoryIndex(oip.RepositoryIndexRequest(ready=True))
    assert [(each.name, each.version, each.state) for each in everything.models] == [
        (MODEL, "1.0", "READY"),
        ("later", "", "UNAVAILABLE"),
    ]
    assert [each.name for each in ready.models] == [MODEL]


async def test_reflection_lists_and_describes_both_pools() -> None:
    """grpcurl finds the protocol's messages as well as those of explain.v1."""
    names = (
        "inference.GRPCInferenceService",
        "explain.v1.ExplanationService",
        "inference.ModelInferRequest",
        "no.such",
    )

    def requests() -> list[reflection_pb2.ServerReflectionRequest]:
        asked = [reflection_pb2.ServerReflectionRequest(file_containing_symbol=name) for name in names]
        return [reflection_pb2.ServerReflectionRequest(list_services=""), *asked]

    async with front() as service:
        stub = reflection_pb2_grpc.ServerReflectionStub(service.channel)
        listed, *files = [answer async for answer in stub.ServerReflectionInfo(iter(requests()))]
    assert {each.name for each in listed.list_services_response.service} >= set(names[:2])
    found = [
        [FileDescriptorProto.FromString(file).package for file in answer.file_descriptor_response.file_descriptor_proto]
        for answer in files
    ]
    assert found[0] == found[2] == ["inference"]
    assert "explain.v1" in found[1]
    assert files[3].error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


def test_another_library_of_the_protocol_may_be_in_the_process() -> None:
    """Registering a package of the same name in the default pool, as every client library does, is no conflict."""
    program = """
from google.protobuf import descriptor_pb2, descriptor_pool
from protos.inference import inference_service_pb2 as ours
file = descriptor_pb2.FileDescriptorProto(name="grpc_service.proto", package="inference", syntax="proto3")
file.message_type.add(name="ModelInferRequest")
descriptor_pool.Default().AddSerializedFile(file.SerializeToString())
assert ours.ModelInferRequest(model_name="a").model_name == "a"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
