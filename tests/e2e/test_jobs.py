"""Jobs on real workers."""

import grpc
import pytest
from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration

from model_store.manifest import DEFAULT_MANIFEST
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from protos.explain.v1 import job_pb2, method_pb2

pytestmark = pytest.mark.e2e

IMAGE = DEFAULT_MANIFEST.parent / "digits" / "samples" / "cat.jpg"


def wait(operations: operations_pb2_grpc.OperationsStub, name: str) -> operations_pb2.Operation:
    """The job when it has ended."""
    return operations.WaitOperation(operations_pb2.WaitOperationRequest(name=name, timeout=Duration(seconds=100)))


def test_a_job_has_the_map_of_explain(channel: grpc.Channel, stub: api_grpc.ExplanationServiceStub) -> None:
    """Number by number, by a method that takes steps."""
    method = method_pb2.Method(opti_cam=method_pb2.OptiCam(steps=5))
    request = api.ExplainRequest(model="digits-cnn", image=IMAGE.read_bytes(), method=method)
    expected = stub.Explain(request)
    operations = operations_pb2_grpc.OperationsStub(channel)
    made = stub.CreateExplanationJob(api.CreateExplanationJobRequest(request=request))
    ended = wait(operations, made.name)
    got, metadata = api.ExplainResponse(), job_pb2.ExplanationJobMetadata()
    assert ended.response.Unpack(got)
    assert ended.metadata.Unpack(metadata)
    assert got.explanations[0].map.values == expected.explanations[0].map.values
    assert (metadata.state, metadata.method) == (job_pb2.JOB_STATE_SUCCEEDED, "opti_cam")
    operations.DeleteOperation(operations_pb2.DeleteOperationRequest(name=made.name))
