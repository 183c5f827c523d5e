"""Who calls: a name, roles, a precision and quotas."""

import enum
from dataclasses import dataclass


class Role(enum.StrEnum):
    """What a client is for. service/identity/permissions.py says which procedures each may call."""

    PREDICT = "predict"
    EXPLAIN = "explain"
    AUDIT = "audit"
    ADMIN = "admin"


class Precision(enum.StrEnum):
    """How precise the answers are. service/identity/precision.py says what each leaves out."""

    COARSE = "coarse"
    STANDARD = "standard"
    FULL = "full"


@dataclass(frozen=True)
class Caller:
    """One client of the service.

    Attributes:
        name: as the clients file has it; "" where nobody is known.
        roles: what it may do.
        precision: how precise its answers are.
        predictions_per_minute: its quota of Predict, or None for no limit.
        explanations_per_minute: its quota of explained classes, or None for no limit.
    """

    name: str
    roles: frozenset[Role]
    precision: Precision
    predictions_per_minute: float | None = None
    explanations_per_minute: float | None = None


NOBODY = Caller("", frozenset(), Precision.COARSE)
"""Whoever has not shown yet who they are."""

LOCAL = Caller("", frozenset(Role), Precision.FULL)
"""Everybody, where identity is off: only on loopback."""
