"""Processes are killed and stopped in the middle of load."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from benchmarks.reliability import processes
from benchmarks.reliability.account import Account, account
from benchmarks.reliability.calls import Call, End
from benchmarks.reliability.health import HealthWatch
from benchmarks.reliability.load import Load
from benchmarks.reliability.processes import Kind
from benchmarks.reliability.questions import Question, answered_alone, mixed, quick
from benchmarks.reliability.serving import Serving, impatient_manifest, serving
from benchmarks.reliability.tables import counts, table
from service.client import Client

CLIENTS = 8
DEADLINE = 4.0  # seconds of each call
STALL = 8.0  # seconds: longer than any client waits
RESPONSE_TIMEOUT = 12  # seconds after which TorchServe kills a worker; 60 by default
QUIET = 3.0  # seconds of load before an event and after the recovery
RECOVERY_TIMEOUT = 120.0


@dataclass(frozen=True)
class Event:
    """Something that goes wrong.

    Attributes:
        name: for the report.
        strike: does it; returns when nothing more is done to the service.
        gone: the service itself goes away, so clients may meet nobody.
    """

    name: str
    strike: Callable[[Serving], Awaitable[None]]
    gone: bool = False


@dataclass(frozen=True)
class Trial:
    """What came of an event.

    Attributes:
        event: that struck.
        noticed: seconds until health was not SERVING; None: it was all the time.
        first_right: seconds until every model had answered a question rightly that was asked after the event.
        ready: seconds until health was SERVING again; None: it was all the time.
        account: of all calls.
    """

    event: Event
    noticed: float | None
    first_right: float
    ready: float | None
    account: Account


def kill(kind: Kind) -> Callable[[Serving], Awaitable[None]]:
    """kill -9 of the oldest process of a kind."""

    async def strike(target: Serving) -> None:
        processes.find(target.service, kind)[0].kill()

    return strike


def stall(seconds: float | None) -> Callable[[Serving], Awaitable[None]]:
    """SIGSTOP of the oldest worker, and SIGCONT after some seconds; None: never."""

    async def strike(target: Serving) -> None:
        worker = processes.find(target.service, Kind.WORKER)[0]
        worker.send_signal(signal.SIGSTOP)
        if seconds is not None:
            await asyncio.sleep(seconds)
            worker.send_signal(signal.SIGCONT)

    return strike


async def kill_service(target: Serving) -> None:
    """kill -9 of the service; whoever supervises it starts it again on the same port."""
    await target.kill()
    await target.start()


# A full disk for jobs and the cache belongs here as one more row each, once the service has them: an Event whose
# `strike` fills the folder that `SETTINGS` gives the service for them, waits, and makes room again.
EVENTS = (
    Event("kill -9 of a worker", kill(Kind.WORKER)),
    Event("kill -9 of Java", kill(Kind.JAVA)),
    Event("kill -9 of the guardian", kill(Kind.GUARDIAN)),
    Event(f"a worker stalls for {STALL:g} s", stall(STALL)),
    Event(f"a worker stalls until TorchServe kills it ({RESPONSE_TIMEOUT} s)", stall(None)),
    Event("kill -9 of the service", kill_service, gone=True),
)
SETTINGS: dict[str, object] = {}


async def run(events: Sequence[Event] = EVENTS) -> list[Trial]:
    """One service, one event after the other, each in the middle of its own load."""
    with impatient_manifest(RESPONSE_TIMEOUT) as manifest:
        async with serving({"manifest": manifest, **SETTINGS}) as target:
            questions = await asyncio.to_thread(_questions, target.address)
            return [await trial(event, target, questions) for event in events]


def _questions(address: str) -> list[Question]:
    with Client(address) as client:
        return quick(answered_alone(client, mixed(client)))


async def trial(event: Event, target: Serving, questions: Sequence[Question]) -> Trial:
    """Load, the event, and load until all is well again.

    Raises:
        TimeoutError: it did not become well.
    """
    load = Load(target.address, questions, CLIENTS, DEADLINE)
    async with HealthWatch(target.address).running() as health, load.running():
        await asyncio.sleep(QUIET)
        struck = time.monotonic()
        await event.strike(target)
        models = {question.model for question in questions}
        async with asyncio.timeout(RECOVERY_TIMEOUT):
            while not (health.settled("SERVING", QUIET) and models <= _answered(load.calls, struck).keys()):
                await asyncio.sleep(0.02)
    changes = [(when - struck, status) for when, status in health.changes if when >= struck]
    return Trial(
        event,
        noticed=next((when for when, status in changes if status != "SERVING"), None),
        first_right=max(_answered(load.calls, struck).values()) - struck,
        ready=changes[-1][0] if changes else None,
        account=account(load.calls, target.log),
    )


def _answered(calls: Sequence[Call], since: float) -> dict[str, float]:
    """When each model had answered a question rightly for the first time that was asked after a moment."""
    first: dict[str, float] = {}
    for call in calls:
        if call.end is End.RIGHT and call.began >= since:
            first.setdefault(call.question.model, call.ended)
    return first


def report(trials: Sequence[Trial]) -> str:
    """The section's text."""
    head = ["event", "noticed", "first right answer", "ready again"]
    rows = [
        [each.event.name, _seconds(each.noticed), _seconds(each.first_right), _seconds(each.ready)] for each in trials
    ]
    accounts = {each.event.name: each.account for each in trials}
    return "\n".join(
        [
            f"{CLIENTS} clients with mixed models, methods and targets, {DEADLINE:g} s for each call. Times count from "
            "the event. The first right answer is that of the model that was last to give one.\n",
            table(head, rows),
            "",
            counts(accounts, gone=[each.event.name for each in trials if each.event.gone]),
        ]
    )


def _seconds(value: float | None) -> str:
    return "stayed SERVING" if value is None else f"{value:.1f} s"
