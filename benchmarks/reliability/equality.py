"""Many clients at the same time get what one client gets alone."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.reliability.account import Account, account
from benchmarks.reliability.answers import TOLERANCE
from benchmarks.reliability.load import Load
from benchmarks.reliability.questions import Question, answered_alone, mixed
from benchmarks.reliability.serving import serving
from benchmarks.reliability.tables import counts
from service.client import Client

CLIENTS = 64
VARIANTS = 2
ROUNDS = 3
DEADLINE = 120.0  # seconds: here nobody is to be late


@dataclass(frozen=True)
class Equality:
    """What came of it.

    Attributes:
        questions: how many different ones there were.
        alone: seconds to ask each once, one after the other.
        together: seconds for all calls of all clients.
        account: of these calls.
    """

    questions: int
    alone: float
    together: float
    account: Account


async def run() -> Equality:
    """On a service of its own, with room for every client: it is equality that is looked at, not admission."""
    async with serving({"queue_size": 4 * CLIENTS}) as target:
        questions = await asyncio.to_thread(ask_alone, target.address, VARIANTS)
        load = Load(target.address, questions, CLIENTS, DEADLINE)
        began = time.monotonic()
        await load.once(ROUNDS)
        together = time.monotonic() - began
        alone = sum(question.seconds for question in questions)
        return Equality(len(questions), alone, together, account(load.calls, target.log))


def ask_alone(address: str, variants: int) -> Sequence[Question]:
    """Mixed questions with the answers that one client gets."""
    with Client(address) as client:
        return answered_alone(client, mixed(client, variants=variants))


def report(made: Equality) -> str:
    """The section's text."""
    seen = made.account
    return "\n".join(
        [
            f"{made.questions} different questions (every model, every method but the always slow ones, several "
            f"targets, JPEG and PNG), each asked once by one client in {made.alone:.1f} s, and then {ROUNDS} times by "
            f"{CLIENTS} clients at the same time, {seen.total} calls in {made.together:.1f} s.\n",
            counts({"calls": seen}),
            f"\n{seen.identical:.1%} of the right answers have the same probabilities and maps in every bit; the "
            f"largest difference of a value is {seen.largest_difference:.1e} (allowed: {TOLERANCE:.0e}).",
        ]
    )
