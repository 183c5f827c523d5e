"""The one table of what each role may call. What is not in it is not there, for anybody."""

from collections.abc import Mapping

from service.identity.caller import Role

_API = "/explain.v1.ExplanationService/"
_OPERATIONS = "/google.longrunning.Operations/"
_INFERENCE = "/inference.GRPCInferenceService/"
_HEALTH = "/grpc.health.v1.Health/"
_EVERY_ROLE = frozenset(Role)
_EXPLAINING = frozenset({Role.EXPLAIN, Role.ADMIN})

PERMISSIONS: Mapping[str, frozenset[Role]] = {
    f"{_API}Predict": frozenset({Role.PREDICT, Role.EXPLAIN, Role.ADMIN}),
    f"{_API}Explain": _EXPLAINING,
    f"{_API}StreamExplain": _EXPLAINING,
    f"{_API}ListModels": _EVERY_ROLE,
    f"{_API}GetModel": _EVERY_ROLE,
    f"{_API}ListMethods": _EVERY_ROLE,
    f"{_API}ListMetrics": _EVERY_ROLE,
    # Of jobs everybody, an admin too, has only their own.
    f"{_API}CreateExplanationJob": _EXPLAINING,
    f"{_OPERATIONS}ListOperations": _EXPLAINING,
    f"{_OPERATIONS}GetOperation": _EXPLAINING,
    f"{_OPERATIONS}DeleteOperation": _EXPLAINING,
    f"{_OPERATIONS}CancelOperation": _EXPLAINING,
    f"{_OPERATIONS}WaitOperation": _EXPLAINING,
    f"{_INFERENCE}ServerMetadata": _EVERY_ROLE,
    f"{_INFERENCE}ModelReady": _EVERY_ROLE,
    f"{_INFERENCE}ModelMetadata": _EVERY_ROLE,
    f"{_INFERENCE}RepositoryIndex": _EVERY_ROLE,
    # A prediction. What asks for an explanation needs the roles of EXPLAIN besides: its servicer looks.
    f"{_INFERENCE}ModelInfer": frozenset({Role.PREDICT, Role.EXPLAIN, Role.ADMIN}),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _EVERY_ROLE,
}

# Without credentials: whatever watches a server's health has none.
OPEN = frozenset({f"{_HEALTH}Check", f"{_HEALTH}Watch", f"{_INFERENCE}ServerLive", f"{_INFERENCE}ServerReady"})

EXPLAIN = f"{_API}Explain"
CREATE_JOB = f"{_API}CreateExplanationJob"


def is_known(path: str) -> bool:
    """Whether somebody decided who may call the procedure at `path`."""
    return path in PERMISSIONS or path in OPEN


def may_call(path: str, roles: frozenset[Role]) -> bool:
    """Whether one of the roles may call the procedure at `path` ("/package.Service/Procedure")."""
    return not roles.isdisjoint(PERMISSIONS.get(path, frozenset()))
