"""The client's part for jobs: google.longrunning.Operations on the same channel."""

from collections.abc import Iterator

from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.duration_pb2 import Duration

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import job_pb2
from service.access import Access
from service.client import Client


class JobClient(Client):
    """A connection to the service that can make jobs and follow them. A call may raise CallError."""

    def __init__(self, address: str, timeout: float = 60.0, access: Access = Access()) -> None:  # noqa: B008 - frozen
        """As `Client`."""
        super().__init__(address, timeout, access)
        self._operations = operations_pb2_grpc.OperationsStub(self._channel)

    def create(self, request: api.CreateExplanationJobRequest) -> operations_pb2.Operation:
        """Make a job."""
        return self._call(self._stub.CreateExplanationJob, request)

    def list(self, only: str = "") -> Iterator[operations_pb2.Operation]:
        """All jobs, newest first; `only` "done=true" or "done=false" ones."""
        token = ""
        while True:
            request = operations_pb2.ListOperationsRequest(filter=only, page_token=token)
            page = self._call(self._operations.ListOperations, request)
            yield from page.operations
            token = page.next_page_token
            if not token:
                return

    def get(self, name: str) -> operations_pb2.Operation:
        """A job as it is now."""
        return self._call(self._operations.GetOperation, operations_pb2.GetOperationRequest(name=name))

    def wait(self, name: str, seconds: float) -> operations_pb2.Operation:
        """A job when it has ended, or as it is after some seconds."""
        timeout = Duration()
        timeout.FromMilliseconds(int(seconds * 1000))
        request = operations_pb2.WaitOperationRequest(name=name, timeout=timeout)
        return self._call(self._operations.WaitOperation, request)

    def cancel(self, name: str) -> None:
        """End a job."""
        self._call(self._operations.CancelOperation, operations_pb2.CancelOperationRequest(name=name))

    def delete(self, name: str) -> None:
        """Forget a job."""
        self._call(self._operations.DeleteOperation, operations_pb2.DeleteOperationRequest(name=name))


def metadata(operation: operations_pb2.Operation) -> job_pb2.ExplanationJobMetadata:
    """What an operation says of its job."""
    unpacked = job_pb2.ExplanationJobMetadata()
    operation.metadata.Unpack(unpacked)
    return unpacked


def response(operation: operations_pb2.Operation) -> api.ExplainResponse | None:
    """The answer of a job that has one."""
    unpacked = api.ExplainResponse()
    return unpacked if operation.response.Unpack(unpacked) else None
