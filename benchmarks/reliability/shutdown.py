"""SIGTERM in the middle of load."""

import asyncio
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.reliability.account import Account, account
from benchmarks.reliability.calls import Call, End
from benchmarks.reliability.equality import ask_alone
from benchmarks.reliability.health import HealthWatch
from benchmarks.reliability.load import Load
from benchmarks.reliability.processes import alive, below
from benchmarks.reliability.questions import Question, partly_streamed, quick
from benchmarks.reliability.serving import Serving, serving
from benchmarks.reliability.tables import counts, table

ROUNDS = 3
CLIENTS = 16
DEADLINE = 20.0  # seconds of each call: shorter than the service's drain time
BEFORE = 3.0  # seconds of load before the signal


@dataclass(frozen=True)
class Shutdown:
    """What came of one SIGTERM. Times are in seconds from the signal.

    Attributes:
        not_serving: when health was seen to say so; None: it was not.
        first_refusal: when a client was first told DRAINING; None: none was.
        last_answer: when the last right answer came.
        ended: when the process had ended.
        status: its exit status.
        left: processes that outlived it.
        open: calls that had begun before the signal and had not ended.
        open_answered: those of them that were answered.
        open_broken: those of them that lost their connection.
        account: of all calls.
    """

    not_serving: float | None
    first_refusal: float | None
    last_answer: float
    ended: float
    status: int
    left: int
    open: int
    open_answered: int
    open_broken: int
    account: Account


async def run(rounds: int = ROUNDS) -> list[Shutdown]:
    """Each round ends a service of its own."""
    made: list[Shutdown] = []
    questions: Sequence[Question] = ()
    for _ in range(rounds):
        async with serving({"cache_bytes": 0}) as target:
            questions = questions or partly_streamed(quick(await asyncio.to_thread(ask_alone, target.address, 1)))
            made.append(await shut_down(target, questions))
    return made


async def shut_down(target: Serving, questions: Sequence[Question]) -> Shutdown:
    """Load, SIGTERM, and load until the process has ended."""
    process = target.service.process
    load = Load(target.address, questions, CLIENTS, DEADLINE)
    async with HealthWatch(target.address).running() as health, load.running():
        await asyncio.sleep(BEFORE)
        family = below(target.service)
        signalled = time.monotonic()
        process.send_signal(signal.SIGTERM)
        status = await asyncio.to_thread(process.wait)
        ended = time.monotonic()
    left = sum(alive(each) for each in family)
    accepted = [call for call in load.calls if call.began < signalled <= call.ended]
    return Shutdown(
        not_serving=_since(signalled, health.first("NOT_SERVING", signalled)),
        first_refusal=_since(signalled, _first_refusal(load.calls)),
        last_answer=max(call.ended for call in load.calls if call.end is End.RIGHT) - signalled,
        ended=ended - signalled,
        status=status,
        left=left,
        open=len(accepted),
        open_answered=sum(call.end is End.RIGHT for call in accepted),
        open_broken=sum(call.end is End.DISCONNECTED for call in accepted),
        account=account(load.calls, target.log),
    )


def _first_refusal(calls: Sequence[Call]) -> float | None:
    return min((call.ended for call in calls if call.why == "DRAINING"), default=None)


def _since(moment: float, when: float | None) -> float | None:
    return None if when is None else when - moment


def report(made: Sequence[Shutdown]) -> str:
    """The section's text."""
    head = ["round", "health NOT_SERVING", "first refusal", "last answer", "process ended", "exit status",
            "processes left", "calls open at the signal", "answered", "connection lost"]  # fmt: skip
    rows = [
        [
            number,
            _seconds(each.not_serving),
            _seconds(each.first_refusal),
            _seconds(each.last_answer),
            _seconds(each.ended),
            each.status,
            each.left,
            each.open,
            each.open_answered,
            each.open_broken,
        ]
        for number, each in enumerate(made, 1)
    ]
    names = [f"round {number}" for number in range(1, len(made) + 1)]
    accounts = dict(zip(names, (each.account for each in made), strict=True))
    return "\n".join(
        [
            f"{CLIENTS} clients ask without a pause until the process has ended. Times count from the signal. An open "
            "call that is not answered had not reached the service yet, and was refused with DRAINING.\n",
            table(head, rows),
            "",
            counts(accounts, gone=names),
        ]
    )


def _seconds(value: float | None) -> str:
    return "not seen" if value is None else f"{value:.2f} s"
