"""Calls over a channel: with the token and a deadline, and with errors of ours for gRPC's."""

from collections.abc import AsyncGenerator, Generator
from typing import Any

import grpc
from google.longrunning import operations_pb2_grpc

from whylight_client._protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from whylight_client.connection import Connection
from whylight_client.errors import from_call


class Calls:
    """Calls that wait for their answer.

    Attributes:
        service: the procedures of explain.v1.ExplanationService.
        operations: those of google.longrunning.Operations.
    """

    def __init__(self, connection: Connection, timeout: float) -> None:
        """Open a channel; a call may take `timeout` seconds unless it says otherwise."""
        self._channel = connection.open()
        self._metadata = connection.metadata
        self._timeout = timeout
        self.service = api_grpc.ExplanationServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self.operations = operations_pb2_grpc.OperationsStub(self._channel)

    def close(self) -> None:
        """End every call and the connection."""
        self._channel.close()

    def unary(self, procedure: Any, request: Any, timeout: float | None) -> Any:
        """The answer.

        Raises:
            WhylightError: there is none.
        """
        try:
            return procedure(request, timeout=_seconds(timeout, self._timeout), metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_call(error) from None  # type: ignore[arg-type]

    def stream(self, procedure: Any, request: Any, timeout: float | None) -> Generator[Any, None, None]:
        """The answers as they come, the result only when the status is there. Closing the generator ends the call.

        Who has the result stops reading; before the status has come, that would be a cancel.

        Raises:
            WhylightError: the call failed.
        """
        call = procedure(request, timeout=_seconds(timeout, self._timeout), metadata=self._metadata)
        try:
            for response in call:
                last = [*call] if response.HasField("result") else []
                yield from (response, *last)
        except grpc.RpcError as error:
            raise from_call(error) from None  # type: ignore[arg-type]
        finally:
            call.cancel()


class AsyncCalls:
    """The same for asyncio."""

    def __init__(self, connection: Connection, timeout: float) -> None:
        """As `Calls`, where the event loop runs."""
        self._channel = connection.open_async()
        self._metadata = connection.metadata
        self._timeout = timeout
        self.service = api_grpc.ExplanationServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self.operations = operations_pb2_grpc.OperationsStub(self._channel)

    async def close(self) -> None:
        """As `Calls.close`."""
        await self._channel.close()

    async def unary(self, procedure: Any, request: Any, timeout: float | None) -> Any:
        """As `Calls.unary`."""
        try:
            return await procedure(request, timeout=_seconds(timeout, self._timeout), metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            raise from_call(error) from None

    async def stream(self, procedure: Any, request: Any, timeout: float | None) -> AsyncGenerator[Any, None]:
        """As `Calls.stream`."""
        call = procedure(request, timeout=_seconds(timeout, self._timeout), metadata=self._metadata)
        try:
            async for response in call:
                last = [each async for each in call] if response.HasField("result") else []
                for each in (response, *last):
                    yield each
        except grpc.aio.AioRpcError as error:
            raise from_call(error) from None
        finally:
            call.cancel()


def _seconds(chosen: float | None, usual: float) -> float:
    return usual if chosen is None else chosen
