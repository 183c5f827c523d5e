"""Processes are killed and stopped in the middle of load."""

import asyncio
import math
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from benchmarks.reliability import processes
from benchmarks.reliability.account import Account, account
from benchmarks.reliability.calls import Call, End
from benchmarks.reliability.disk import Disk, small_disk
from benchmarks.reliability.health import HealthWatch
from benchmarks.reliability.jobs import MOST, JobAccount, JobLoad, job_counts
from benchmarks.reliability.load import Load
from benchmarks.reliability.processes import Kind
from benchmarks.reliability.questions import Question, answered_alone, mixed, partly_streamed, quick
from benchmarks.reliability.serving import Serving, impatient_manifest, serving
from benchmarks.reliability.tables import counts, table
from service.client import Client

CLIENTS = 8
DEADLINE = 4.0  # seconds of each call
STALL = 8.0  # seconds: longer than any client waits
RESPONSE_TIMEOUT = 12  # seconds after which TorchServe kills a worker; 60 by default
QUIET = 3.0  # seconds of load before an event and after the recovery
RECOVERY_TIMEOUT = 240.0  # a worker takes its time to start where others want the processors, too
FULL = 6.0  # seconds without room on the jobs' disk
NO_DISK = "A full disk was not tried: this user may not mount a file system."


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
        noticed: seconds until health was not SERVING, or a model not READY; None: all were all the time.
        first_right: seconds until every lane of every model had answered a question rightly that was asked after it
            began.
        ready: seconds until health was SERVING and every model READY again; None: they were all the time.
        recovered: whether all was well again within RECOVERY_TIMEOUT.
        account: of all calls.
        jobs: what became of the jobs that were made meanwhile.
    """

    event: Event
    noticed: float | None
    first_right: float
    ready: float | None
    recovered: bool
    account: Account
    jobs: JobAccount


def kill(kind: Kind) -> Callable[[Serving], Awaitable[None]]:
    """kill -9 of the oldest process of a kind."""

    async def strike(target: Serving) -> None:
        processes.find(target.service, kind)[0].kill()

    return strike


async def kill_workers(target: Serving) -> None:
    """kill -9 of every worker of every lane of every model."""
    for worker in processes.find(target.service, Kind.WORKER):
        worker.kill()


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


EVENTS = (
    Event("kill -9 of a worker", kill(Kind.WORKER)),
    Event("kill -9 of all workers", kill_workers),
    Event("kill -9 of Java", kill(Kind.JAVA)),
    Event("kill -9 of the guardian", kill(Kind.GUARDIAN)),
    Event(f"a worker stalls for {STALL:g} s", stall(STALL)),
    Event(f"a worker stalls until TorchServe kills it ({RESPONSE_TIMEOUT} s)", stall(None)),
    Event("kill -9 of the service", kill_service, gone=True),
)


async def run(events: Sequence[Event] = EVENTS) -> list[Trial]:
    """One service, one event after the other, each in the middle of its own load."""
    with impatient_manifest(RESPONSE_TIMEOUT) as manifest, small_disk() as disk:
        settings = {"manifest": manifest, "cache_bytes": 0, "jobs_database": disk.folder / "jobs.sqlite"}
        all_events = [*events, full(disk)] if disk.small else events
        async with serving(settings) as target:
            questions = await asyncio.to_thread(_questions, target.address)
            return [await trial(event, target, questions) for event in all_events]


def full(disk: Disk) -> Event:
    """The disk of the jobs is full for some time."""

    async def strike(target: Serving) -> None:
        await disk.be_full(FULL)

    return Event(f"the disk of the jobs is full for {FULL:g} s", strike)


def _questions(address: str) -> list[Question]:
    with Client(address) as client:
        return partly_streamed(quick(answered_alone(client, mixed(client))))


async def trial(event: Event, target: Serving, questions: Sequence[Question]) -> Trial:
    """Load and jobs, the event, and load until all is well again; then every job has to end."""
    load, jobs = Load(target.address, questions, CLIENTS, DEADLINE), JobLoad(target.address, questions)
    async with HealthWatch(target.address, lanes=True).running() as health, load.running(), jobs.running():
        await asyncio.sleep(QUIET)
        struck = time.monotonic()
        await event.strike(target)
        over, wall_over = time.monotonic(), time.time()
        lanes = {_lane(question) for question in questions}

        def well() -> bool:
            answered = lanes <= _answered(load.calls, struck).keys()
            return answered and health.settled("SERVING", QUIET) and time.monotonic() >= over + QUIET

        while not (recovered := well()) and time.monotonic() < over + RECOVERY_TIMEOUT:
            await asyncio.sleep(0.05)
    settled = await jobs.settle(wall_over, lambda: target.log, gone=event.gone)
    changes = [(when - struck, status) for when, status in health.changes if when >= struck]
    return Trial(
        event,
        noticed=next((when for when, status in changes if status != "SERVING"), None),
        first_right=max(_answered(load.calls, struck).values(), default=math.inf) - struck,
        ready=changes[-1][0] if changes else None,
        recovered=recovered,
        account=account(load.calls, target.log),
        jobs=settled,
    )


def _lane(question: Question) -> tuple[str, int]:
    return question.model, question.lane


def _answered(calls: Sequence[Call], since: float) -> dict[tuple[str, int], float]:
    """When each lane had answered a question rightly for the first time that was asked after a moment."""
    first: dict[tuple[str, int], float] = {}
    for call in calls:
        if call.end is End.RIGHT and call.began >= since:
            first.setdefault(_lane(call.question), call.ended)
    return first


def report(trials: Sequence[Trial]) -> str:
    """The section's text."""
    head = ["event", "noticed", "first right answer", "ready again"]
    rows = [[each.event.name, _seconds(each.noticed), _seconds(each.first_right), _ready(each)] for each in trials]
    accounts = {each.event.name: each.account for each in trials}
    return "\n".join(
        [
            f"{CLIENTS} clients with mixed models, methods and targets, {DEADLINE:g} s for each call. Times count from "
            "the beginning of the event. The first right answer is that of the lane that was last to give one; ready "
            "are the service by its health and every lane of every model. Every third explanation is asked for as a "
            "stream.\n",
            table(head, rows),
            "",
            counts(accounts, gone=[each.event.name for each in trials if each.event.gone]),
            "",
            f"One more client makes jobs meanwhile, of the same explanations, at most {MOST} each time, and sends what "
            "got no operation again under the same request id. Times count from the end of the event.\n",
            job_counts({each.event.name: each.jobs for each in trials}),
            *([] if any("disk" in each.event.name for each in trials) else ["", NO_DISK]),
        ]
    )


def _seconds(value: float | None) -> str:
    return "stayed ready" if value is None else f"{value:.1f} s"


def _ready(made: Trial) -> str:
    return _seconds(made.ready) if made.recovered else f"NOT within {RECOVERY_TIMEOUT:g} s"
