"""Asks for jobs as a client does."""

from collections.abc import Sequence

from google.longrunning import operations_pb2 as lro
from google.protobuf.duration_pb2 import Duration

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import job_pb2
from tests.service.fakes import Front
from tests.service.test_front import explain

Metadata = Sequence[tuple[str, str]]


async def create(
    service: Front, request: api.ExplainRequest | None = None, metadata: Metadata = (), **fields: object
) -> lro.Operation:
    """A new job, of some request unless it is given."""
    asked = api.CreateExplanationJobRequest(request=request or explain(), **fields)
    return await service.stub.CreateExplanationJob(asked, metadata=metadata)


async def waited(service: Front, name: str, metadata: Metadata = (), seconds: int = 20) -> lro.Operation:
    """The job when it has ended."""
    request = lro.WaitOperationRequest(name=name, timeout=Duration(seconds=seconds))
    return await service.operations.WaitOperation(request, metadata=metadata)


async def get(service: Front, name: str, metadata: Metadata = ()) -> lro.Operation:
    return await service.operations.GetOperation(lro.GetOperationRequest(name=name), metadata=metadata)


async def cancel(service: Front, name: str, metadata: Metadata = ()) -> None:
    await service.operations.CancelOperation(lro.CancelOperationRequest(name=name), metadata=metadata)


async def delete(service: Front, name: str, metadata: Metadata = ()) -> None:
    await service.operations.DeleteOperation(lro.DeleteOperationRequest(name=name), metadata=metadata)


async def listed(service: Front, metadata: Metadata = (), **fields: object) -> lro.ListOperationsResponse:
    return await service.operations.ListOperations(lro.ListOperationsRequest(**fields), metadata=metadata)


def said(operation: lro.Operation) -> job_pb2.ExplanationJobMetadata:
    """What an operation says of its job."""
    metadata = job_pb2.ExplanationJobMetadata()
    assert operation.metadata.Unpack(metadata)
    return metadata


def answer(operation: lro.Operation) -> api.ExplainResponse:
    """The answer of a job that succeeded."""
    response = api.ExplainResponse()
    assert operation.response.Unpack(response)
    return response
