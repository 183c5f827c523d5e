"""Every procedure of every service of the server, for every role, for nobody, and for a wrong token."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import grpc
import pytest
from google.longrunning import operations_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from protos.explain.v1 import explanation_service_pb2 as api
from protos.inference import inference_service_pb2 as oip
from service.identity.caller import Role
from service.identity.permissions import OPEN, PERMISSIONS, may_call
from tests.service.fakes import MODEL, Front, front
from tests.service.identity.people import bearer, one_of_each_role
from tests.service.inference.asking import ask
from tests.service.test_front import IMAGE, details, explain

API = "/explain.v1.ExplanationService"
OPERATIONS = "/google.longrunning.Operations"
INFERENCE = "/inference.GRPCInferenceService"
HEALTH = "/grpc.health.v1.Health"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"

# The answers that the issue asks for, written down a second time: predict, explain, audit, admin.
EXPECTED = {
    f"{API}/Predict": {"predict", "explain", "admin"},
    f"{API}/Explain": {"explain", "admin"},
    f"{API}/StreamExplain": {"explain", "admin"},
    f"{API}/CreateExplanationJob": {"explain", "admin"},
    f"{OPERATIONS}/ListOperations": {"explain", "admin"},
    f"{OPERATIONS}/GetOperation": {"explain", "admin"},
    f"{OPERATIONS}/DeleteOperation": {"explain", "admin"},
    f"{OPERATIONS}/CancelOperation": {"explain", "admin"},
    f"{OPERATIONS}/WaitOperation": {"explain", "admin"},
    f"{API}/ListModels": {"predict", "explain", "audit", "admin"},
    f"{API}/GetModel": {"predict", "explain", "audit", "admin"},
    f"{API}/ListMethods": {"predict", "explain", "audit", "admin"},
    f"{API}/ListMetrics": {"predict", "explain", "audit", "admin"},
    f"{INFERENCE}/ServerLive": {"predict", "explain", "audit", "admin", "nobody", "wrong"},
    f"{INFERENCE}/ServerReady": {"predict", "explain", "audit", "admin", "nobody", "wrong"},
    f"{INFERENCE}/ServerMetadata": {"predict", "explain", "audit", "admin"},
    f"{INFERENCE}/ModelReady": {"predict", "explain", "audit", "admin"},
    f"{INFERENCE}/ModelMetadata": {"predict", "explain", "audit", "admin"},
    f"{INFERENCE}/RepositoryIndex": {"predict", "explain", "audit", "admin"},
    f"{INFERENCE}/ModelInfer": {"predict", "explain", "admin"},
    f"{HEALTH}/Check": {"predict", "explain", "audit", "admin", "nobody", "wrong"},
    f"{HEALTH}/Watch": {"predict", "explain", "audit", "admin", "nobody", "wrong"},
    REFLECTION: {"predict", "explain", "audit", "admin"},
}
REQUESTS = {
    "Predict": api.PredictRequest(model=MODEL, image=IMAGE),
    "Explain": explain(),
    "StreamExplain": api.StreamExplainRequest(request=explain()),
    "CreateExplanationJob": api.CreateExplanationJobRequest(request=explain()),
    "ListOperations": operations_pb2.ListOperationsRequest(),
    "GetOperation": operations_pb2.GetOperationRequest(name="operations/none"),
    "DeleteOperation": operations_pb2.DeleteOperationRequest(name="operations/none"),
    "CancelOperation": operations_pb2.CancelOperationRequest(name="operations/none"),
    "WaitOperation": operations_pb2.WaitOperationRequest(name="operations/none"),
    "ListModels": api.ListModelsRequest(),
    "GetModel": api.GetModelRequest(model=MODEL),
    "ListMethods": api.ListMethodsRequest(),
    "ListMetrics": api.ListMetricsRequest(),
    "ServerLive": oip.ServerLiveRequest(),
    "ServerReady": oip.ServerReadyRequest(),
    "ServerMetadata": oip.ServerMetadataRequest(),
    "ModelReady": oip.ModelReadyRequest(name=MODEL),
    "ModelMetadata": oip.ModelMetadataRequest(name=MODEL),
    "RepositoryIndex": oip.RepositoryIndexRequest(),
    "ModelInfer": ask(),
    "Check": health_pb2.HealthCheckRequest(),
    "Watch": health_pb2.HealthCheckRequest(),
    "ServerReflectionInfo": reflection_pb2.ServerReflectionRequest(list_services=""),
}
# What whoever may call gets, where it is no answer.
ANSWERS = dict.fromkeys(
    ("GetOperation", "DeleteOperation", "CancelOperation", "WaitOperation"), "NOT_FOUND JOB_NOT_FOUND"
)
CALLERS: dict[str, Sequence[tuple[str, str]]] = {
    **{role.value: bearer(role.value) for role in Role},
    "nobody": (),
    "wrong": bearer("someone-else"),
}


def procedures() -> list[tuple[str, bool, bool]]:
    """Path and shape of every procedure, from the descriptors; but for one that gRPC's Python does not implement."""
    services = [
        api.DESCRIPTOR.services_by_name["ExplanationService"],
        operations_pb2.DESCRIPTOR.services_by_name["Operations"],
        oip.DESCRIPTOR.services_by_name["GRPCInferenceService"],
        health_pb2.DESCRIPTOR.services_by_name["Health"],
        reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"],
    ]
    return [
        (f"/{service.full_name}/{method.name}", method.client_streaming, method.server_streaming)
        for service in services
        for method in service.methods
        if method.full_name != "grpc.health.v1.Health.List"
    ]


def answer(path: str) -> str:
    return ANSWERS.get(path.rpartition("/")[2], "OK")


async def outcome(service: Front, path: str, shape: tuple[bool, bool], metadata: Sequence[tuple[str, str]]) -> str:
    """Call a procedure, without its types; the status and, for a refusal, its reason."""
    request = REQUESTS[path.rpartition("/")[2]].SerializeToString()

    async def requests() -> AsyncIterator[bytes]:
        yield request

    try:
        if shape == (False, False):
            await service.channel.unary_unary(path)(request, metadata=metadata)
        elif shape == (False, True):
            async for _ in service.channel.unary_stream(path)(request, metadata=metadata):
                break
        elif shape == (True, True):
            async for _ in service.channel.stream_stream(path)(requests(), metadata=metadata):
                break
    except grpc.aio.AioRpcError as error:
        return f"{error.code().name} {details(error)['ErrorInfo'].reason}"  # type: ignore[attr-defined]
    return "OK"


def test_every_procedure_is_in_the_table() -> None:
    """A procedure that the table does not know fails here: somebody must decide who may call it."""
    assert {path for path, *_ in procedures()} == PERMISSIONS.keys() | OPEN == EXPECTED.keys()


@pytest.mark.parametrize("path", ["", f"{API}/Delete", f"{API}/explain", f"{API}/Explain/", "/other.v1.Other/Explain"])
def test_what_the_table_does_not_know_nobody_may_call(path: str) -> None:
    """The default is no, for every role at once."""
    assert not may_call(path, frozenset(Role))


@pytest.mark.parametrize("caller", CALLERS)
async def test_each_role_may_call_what_it_should_and_nothing_else(caller: str, tmp_path: Path) -> None:
    """Every cell of the matrix: an answer, PERMISSION_DENIED for a wrong role, UNAUTHENTICATED without credentials."""
    refusals = {"nobody": "UNAUTHENTICATED CREDENTIALS_MISSING", "wrong": "UNAUTHENTICATED CREDENTIALS_INVALID"}
    refusal = refusals.get(caller, "PERMISSION_DENIED ROLE_NOT_ALLOWED")
    async with front(clients_file=one_of_each_role(tmp_path)) as service:
        for path, *shape in procedures():
            expected = answer(path) if caller in EXPECTED[path] else refusal
            got = await outcome(service, path, (shape[0], shape[1]), CALLERS[caller])
            assert (path, got) == (path, expected)
        if caller not in EXPECTED[f"{API}/Predict"]:
            assert service.worker.requests == []


@pytest.mark.parametrize("off", [True, False], ids=["identity off", "identity on"])
async def test_a_procedure_without_a_row_is_not_there(
    off: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Health has a procedure that its servicer lacks; it, and any other one, is UNIMPLEMENTED and logs no traceback."""
    async with front(**({} if off else {"clients_file": one_of_each_role(tmp_path)})) as service:
        for path in (f"{HEALTH}/List", f"{API}/Delete"):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await service.channel.unary_unary(path)(b"", metadata=bearer("admin"))
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert caplog.records == []


async def test_everything_is_open_where_identity_is_off() -> None:
    """On loopback without a clients file nobody is asked."""
    async with front() as service:
        for path, *shape in procedures():
            assert await outcome(service, path, (shape[0], shape[1]), ()) == answer(path)


@pytest.mark.parametrize(
    "values",
    [
        ["token-admin"],
        ["Basic token-admin"],
        ["Bearer"],
        ["Bearer "],
        ["Bearer token-admi"],
        ["Bearer token-admin2"],
        ["Bearer token-admin", "Bearer token-admin"],
        ["Bearer token-nobody", "Bearer token-admin"],
    ],
)
async def test_only_one_right_bearer_token_counts(values: list[str], tmp_path: Path) -> None:
    """Another scheme, a part of a token, and several headers are refused."""
    async with front(clients_file=one_of_each_role(tmp_path)) as service:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await service.stub.ListModels(
                api.ListModelsRequest(), metadata=tuple(("authorization", value) for value in values)
            )
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_the_scheme_may_be_written_in_any_case(tmp_path: Path) -> None:
    """RFC 9110: the name of a scheme has no case."""
    async with front(clients_file=one_of_each_role(tmp_path)) as service:
        await service.stub.ListModels(api.ListModelsRequest(), metadata=(("authorization", "bearer token-audit"),))


async def test_the_caller_is_counted_by_name_and_nobody_by_none(tmp_path: Path) -> None:
    """The metric has the client's configured name, also of a refusal, and "" where nobody was found."""
    async with front(clients_file=one_of_each_role(tmp_path)) as service:
        shape = (False, False)
        await outcome(service, f"{API}/Predict", shape, bearer("predict"))
        await outcome(service, f"{API}/Explain", shape, bearer("predict"))
        await outcome(service, f"{API}/Explain", shape, bearer("someone-else"))

        def count(client: str, rpc: str, code: str) -> float | None:
            labels = {"client": client, "rpc": rpc, "code": code}
            return service.metrics.registry.get_sample_value("whylight_client_requests_total", labels)

        assert count("predict", "Predict", "OK") == 1
        assert count("predict", "Explain", "PERMISSION_DENIED") == 1
        assert count("", "Explain", "UNAUTHENTICATED") == 1
