"""The harness of docs/reliability.md, bounded: many clients, a long run in short, a stalled worker, SIGTERM."""

import asyncio
import math
from collections.abc import Iterator, Sequence

import pytest

from benchmarks.reliability.account import account
from benchmarks.reliability.calls import End
from benchmarks.reliability.chaos import Event, stall, trial
from benchmarks.reliability.equality import ask_alone
from benchmarks.reliability.load import Load
from benchmarks.reliability.questions import Question, partly_streamed, partly_uncached, quick
from benchmarks.reliability.serving import Serving
from benchmarks.reliability.shutdown import shut_down
from benchmarks.reliability.soak import soak
from service.launch import Launched, launched
from tests.e2e.conftest import one_model

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def questions(service: Launched) -> Sequence[Question]:
    """Mixed questions with the answers that one client gets; some of them are not for the cache, or for a stream."""
    return partly_streamed(partly_uncached(quick(ask_alone(service.address, 1))))


@pytest.fixture(scope="module")
def victim(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A service of this file's own, with one of the default models, and without the cache. The last test ends it."""
    manifest = one_model(tmp_path_factory.mktemp("victim"))
    with launched({"manifest": manifest, "cache_bytes": 0}) as running:
        yield Serving.attached(running)


async def test_64_clients_get_what_one_client_gets(service: Launched, questions: Sequence[Question]) -> None:
    """Mixed models, methods, targets and images at the same time: every answer is right, none is lost or doubled."""
    load = Load(service.address, questions, clients=64, timeout=240)
    await load.once(math.ceil(64 / len(questions)))
    made = account(load.calls, service.log.read_text())
    assert made.total >= 64
    assert made.failures() == 0, made
    assert made.ends[End.RIGHT] == made.total, made


async def test_nothing_grows_under_load_with_cancellations_and_nonsense(
    service: Launched, questions: Sequence[Question]
) -> None:
    """30 seconds: descriptors and threads of every process stay. Memory takes longer to judge: see the benchmark."""
    made = await soak(Serving.attached(service), questions, seconds=30, interval=1)
    # In so short a time what is under way at the moment shows: a service with 80 descriptors has a few more or fewer.
    for trend in (*made.descriptors.values(), *made.threads.values()):
        assert trend.flat or trend.growth <= 0.05 * trend.median, (made.descriptors, made.threads)
    assert made.disturbances["cancelled"] > 10
    assert made.disturbances["bad requests refused"] > 10
    assert not made.disturbances.keys() - {"cancelled", "bad requests refused"}
    assert made.account.failures() == 0, made.account
    assert not any(each.failures for each in made.jobs), made.jobs


async def test_a_stalled_worker_delays_and_does_no_harm(victim: Serving) -> None:
    """SIGSTOP for longer than any deadline, then SIGCONT: clients meet their deadlines, and then all is well."""
    asked = quick(await asyncio.to_thread(ask_alone, victim.address, 1))
    made = await trial(Event("stall", stall(6.0)), victim, asked)
    assert made.account.failures() == 0, made.account
    assert made.account.reasons["DEADLINE_EXCEEDED"] > 0, made.account
    assert made.recovered
    assert made.jobs.failures == 0, made.jobs
    assert made.jobs.right == made.jobs.accepted > 0, made.jobs
    assert made.first_right > 6


async def test_sigterm_under_load(victim: Serving) -> None:
    """Health says NOT_SERVING first, open calls are answered, new ones hear why not, and no process is left."""
    asked = quick(await asyncio.to_thread(ask_alone, victim.address, 1))
    made = await shut_down(victim, asked)
    assert made.not_serving is not None
    assert made.not_serving < made.last_answer
    assert made.open >= 8
    assert made.open_broken == 0
    assert made.account.failures(gone=True) == 0, made.account
    assert made.account.reasons["DRAINING"] > 0
    assert (made.status, made.left) == (0, 0)
