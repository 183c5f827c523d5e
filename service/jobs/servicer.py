"""google.longrunning.Operations: jobs as any client library for long-running operations knows them."""

from google.longrunning import operations_pb2, operations_pb2_grpc
from google.protobuf.empty_pb2 import Empty

from service.jobs.checks import to_seconds
from service.jobs.jobs import Jobs
from service.rpc_types import Context

NAME = "google.longrunning.Operations"
MARGIN = 0.2  # seconds, or a tenth of what is left: an answer needs time to arrive before the deadline


class OperationsServicer(operations_pb2_grpc.OperationsServicer):  # type: ignore[misc]  # it has no stubs
    """Follows, ends and forgets jobs."""

    def __init__(self, jobs: Jobs, default_timeout: float) -> None:
        self._jobs = jobs
        self._default_timeout = default_timeout

    async def ListOperations(  # noqa: N802
        self, request: operations_pb2.ListOperationsRequest, context: Context
    ) -> operations_pb2.ListOperationsResponse:
        """The caller's jobs, newest first."""
        return await self._jobs.page(request)

    async def GetOperation(  # noqa: N802
        self, request: operations_pb2.GetOperationRequest, context: Context
    ) -> operations_pb2.Operation:
        """A job as it is now."""
        return await self._jobs.get(request.name)

    async def DeleteOperation(self, request: operations_pb2.DeleteOperationRequest, context: Context) -> Empty:  # noqa: N802
        """Forget a job."""
        await self._jobs.delete(request.name)
        return Empty()

    async def CancelOperation(self, request: operations_pb2.CancelOperationRequest, context: Context) -> Empty:  # noqa: N802
        """End a job."""
        await self._jobs.cancel(request.name)
        return Empty()

    async def WaitOperation(  # noqa: N802
        self, request: operations_pb2.WaitOperationRequest, context: Context
    ) -> operations_pb2.Operation:
        """A job when it has ended, or as it is when nobody waits longer."""
        remaining = context.time_remaining()
        longest = self._default_timeout if remaining is None else remaining - min(MARGIN, remaining / 10)
        if request.HasField("timeout"):
            longest = min(longest, to_seconds(request.timeout))
        return await self._jobs.wait(request.name, max(0.0, longest))
