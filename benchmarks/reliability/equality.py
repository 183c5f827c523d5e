"""Many clients at the same time get what one client gets alone."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from benchmarks.reliability.account import Account, account
from benchmarks.reliability.answers import TOLERANCE
from benchmarks.reliability.load import Load
from benchmarks.reliability.questions import STREAMED, Question, answered_alone, mixed, partly_streamed, uncached
from benchmarks.reliability.serving import Serving, serving
from benchmarks.reliability.tables import counts, table
from service.client import Client

CLIENTS = 64
VARIANTS = 2
ROUNDS = 3
ALONE, CACHED = "each computed by itself", "with the cache"
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


async def run() -> dict[str, Equality]:
    """On a service of its own, with room for every client: it is equality that is looked at, not admission."""
    async with serving({f"{lane}queue_size": 4 * CLIENTS for lane in ("", "fast_", "slow_")}) as target:
        questions = partly_streamed(await asyncio.to_thread(ask_alone, target.address, VARIANTS))
        asked = {ALONE: [uncached(each) for each in questions], CACHED: questions}
        return {name: await together(target, each) for name, each in asked.items()}


async def together(target: Serving, questions: Sequence[Question]) -> Equality:
    """Ask every question by all clients."""
    load = Load(target.address, questions, CLIENTS, DEADLINE)
    began = time.monotonic()
    await load.once(ROUNDS)
    seconds = time.monotonic() - began
    alone = sum(question.seconds for question in questions)
    return Equality(len(questions), alone, seconds, account(load.calls, target.log))


def ask_alone(address: str, variants: int) -> Sequence[Question]:
    """Mixed questions with the answers that one client gets."""
    with Client(address) as client:
        return answered_alone(client, mixed(client, variants=variants))


def report(made: Mapping[str, Equality]) -> str:
    """The section's text."""
    first = made[ALONE]
    rows = [
        [name, each.account.total, f"{each.together:.1f} s", f"{each.account.identical:.1%}",
         f"{each.account.largest_difference:.1e}"]
        for name, each in made.items()
    ]  # fmt: skip
    return "\n".join(
        [
            f"{first.questions} different questions (every model, every method but the always slow ones, several "
            f"targets, JPEG and PNG, every {STREAMED}rd explanation as a stream), each asked once by one client in "
            f"{first.alone:.1f} s, and then {ROUNDS} times by {CLIENTS} clients at the same time: with `no_cache`, so "
            "that every answer is computed for its own request, and without, so that answers are kept and identical "
            "requests share a computation. Identical are right answers whose probabilities and maps are the same in "
            f"every bit; a value may differ by {TOLERANCE:.0e}.\n",
            table(["", "calls", "time", "identical", "largest difference"], rows),
            "",
            counts({name: each.account for name, each in made.items()}),
        ]
    )
