"""The one table of what each role may call. What is not in it is not there, for anybody."""

from collections.abc import Mapping

from service.identity.caller import Role

_API = "/explain.v1.ExplanationService/"
_HEALTH = "/grpc.health.v1.Health/"
_EVERY_ROLE = frozenset(Role)

PERMISSIONS: Mapping[str, frozenset[Role]] = {
    f"{_API}Predict": frozenset({Role.PREDICT, Role.EXPLAIN, Role.ADMIN}),
    f"{_API}Explain": frozenset({Role.EXPLAIN, Role.ADMIN}),
    f"{_API}StreamExplain": frozenset({Role.EXPLAIN, Role.ADMIN}),
    f"{_API}ListModels": _EVERY_ROLE,
    f"{_API}GetModel": _EVERY_ROLE,
    f"{_API}ListMethods": _EVERY_ROLE,
    f"{_API}ListMetrics": _EVERY_ROLE,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _EVERY_ROLE,
}

# Without credentials: whatever watches a server's health has none.
OPEN = frozenset({f"{_HEALTH}Check", f"{_HEALTH}Watch"})


def is_known(path: str) -> bool:
    """Whether somebody decided who may call the procedure at `path`."""
    return path in PERMISSIONS or path in OPEN


def may_call(path: str, roles: frozenset[Role]) -> bool:
    """Whether one of the roles may call the procedure at `path` ("/package.Service/Procedure")."""
    return not roles.isdisjoint(PERMISSIONS.get(path, frozenset()))
