"""Jobs over a real channel, on a worker that answers in process."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc
import pytest
from google.longrunning import operations_pb2 as lro
from google.protobuf.duration_pb2 import Duration
from google.rpc import code_pb2, error_details_pb2

from model_store.lanes import Lane
from protos.explain.v1 import job_pb2, method_pb2, types_pb2
from protos.worker.v1 import worker_pb2
from service import parts
from service.errors import NoRoomError, WorkerUnavailableError
from service.identity.gate import Gate
from service.settings import Settings
from service.starting import StartError
from service.status_details import KEY
from service.torchserve.client import ModelWorkers
from service.tracing import NoTracing
from tests.service.fakes import MODEL, FakeWorker, Front, front
from tests.service.identity.people import bearer, entry, write_clients
from tests.service.identity.test_precision import precise
from tests.service.jobs.asking import answer, cancel, create, delete, get, listed, said, waited
from tests.service.test_front import IMAGE, details, explain, refused


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens soon."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.005)


async def test_a_job_answers_as_explain_does() -> None:
    """The same answer, with the operation's name for a request id, and the times of its way."""
    async with front() as service:
        before = time.time()
        made = await create(service, request_id="mine")
        assert not made.done
        assert said(made).state == job_pb2.JOB_STATE_QUEUED
        ended = await waited(service, made.name)
        got, expected = answer(ended), await service.stub.Explain(explain())
        assert got.provenance.request_id == made.name.removeprefix("operations/")
        assert got.predictions == expected.predictions
        assert got.explanations == expected.explanations
        metadata = said(ended)
        assert (ended.done, metadata.state) == (True, job_pb2.JOB_STATE_SUCCEEDED)
        assert (metadata.model, metadata.method, metadata.request_id) == (MODEL, "grad_cam", "mine")
        way = [getattr(metadata, f"{each}_time").ToNanoseconds() / 1e9 for each in ("create", "start", "end")]
        times = [before, *way]
        assert times == sorted(times)
        assert metadata.expire_time.ToSeconds() - metadata.end_time.ToSeconds() == pytest.approx(86_400, abs=1)
        assert await get(service, made.name) == ended


async def test_the_same_request_under_the_same_id_is_one_job() -> None:
    """Also at the same time, and after its end; another request under the id is refused."""
    async with front() as service:
        made = await asyncio.gather(*(create(service, request_id="r1") for _ in range(40)))
        assert len({each.name for each in made}) == 1
        await waited(service, made[0].name)
        assert (await create(service, request_id="r1")).done
        assert len(service.worker.requests) == 1
        error = await refused(create(service, explain(top_k=3), request_id="r1"))  # type: ignore[arg-type]
        assert error.code() is grpc.StatusCode.ALREADY_EXISTS
        assert details(error)["ErrorInfo"].reason == "REQUEST_ID_REUSED"  # type: ignore[attr-defined]
        assert (await create(service)).name != (await create(service)).name


async def test_the_clients_timeout_reaches_the_worker() -> None:
    """As the deadline of the work; without one, the service's limit."""
    async with front(jobs_timeout=100) as service:
        for fields, seconds in (({"timeout": Duration(seconds=40)}, 40), ({}, 100)):
            await waited(service, (await create(service, **fields)).name)
            remaining = service.worker.requests[-1].deadline.ToNanoseconds() / 1e9 - time.time()
            assert remaining == pytest.approx(seconds, abs=3)


def two_clients(folder: Path, **fields: object) -> Path:
    return write_clients(folder / "clients.toml", entry("a", "explain", **fields), entry("b", "admin"))


async def test_another_clients_job_is_not_there(tmp_path: Path) -> None:
    """For an admin neither: NOT_FOUND as for one that never was, not listed, and its request id is free."""
    async with front(clients_file=two_clients(tmp_path)) as service:
        made = await create(service, metadata=bearer("a"), request_id="r1")
        await waited(service, made.name, bearer("a"))
        calls: list[Callable[..., Awaitable[object]]] = [get, cancel, delete, waited]
        for call in calls:
            for name in (made.name, "operations/none", made.name.removeprefix("operations/"), ""):
                error = await refused(call(service, name, bearer("b")))  # type: ignore[arg-type]
                assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "no such operation")
        assert not (await listed(service, bearer("b"))).operations
        assert [each.name for each in (await listed(service, bearer("a"))).operations] == [made.name]
        other = await create(service, explain(top_k=2), bearer("b"), request_id="r1")
        assert other.name != made.name


async def test_a_running_job_can_be_cancelled() -> None:
    """Its work stops, whoever waits is told, and a second cancel changes nothing."""
    async with front() as service:
        service.worker.gate.clear()
        made = await create(service)
        await until(lambda: bool(service.worker.requests))
        assert said(await get(service, made.name)).state == job_pb2.JOB_STATE_RUNNING
        waiting = asyncio.ensure_future(waited(service, made.name))
        await cancel(service, made.name)
        ended = await waiting
        assert (ended.done, ended.error.code) == (True, code_pb2.CANCELLED)
        assert said(ended).state == job_pb2.JOB_STATE_CANCELLED
        service.worker.gate.set()
        await cancel(service, made.name)
        assert await get(service, made.name) == ended
        labels = {"model": MODEL, "lane": "predict"}
        await until(lambda: service.metrics.registry.get_sample_value("whylight_in_flight", labels) == 0)


async def test_a_waiting_job_is_cancelled_before_it_begins() -> None:
    """One at a time: the second never reaches the worker."""
    async with front(jobs_concurrency=1) as service:
        service.worker.gate.clear()
        first, second = await create(service), await create(service)
        await until(lambda: bool(service.worker.requests))
        await cancel(service, second.name)
        service.worker.gate.set()
        assert (await waited(service, first.name)).HasField("response")
        assert (await get(service, second.name)).error.code == code_pb2.CANCELLED
        assert len(service.worker.requests) == 1


async def test_a_deleted_job_is_gone_and_its_work_stops() -> None:
    """Also while it runs: nobody could read its result."""
    async with front() as service:
        service.worker.gate.clear()
        made = await create(service)
        await until(lambda: bool(service.worker.requests))
        waiting = asyncio.ensure_future(waited(service, made.name))
        await asyncio.sleep(0)
        await delete(service, made.name)
        assert (await refused(get(service, made.name))).code() is grpc.StatusCode.NOT_FOUND  # type: ignore[arg-type]
        await asyncio.wait({waiting}, timeout=5)
        assert waiting.done()
        waiting.exception()
        assert not service.jobs._runner._runs


async def test_a_failure_is_the_status_that_explain_gives() -> None:
    """With its details, and the worker's sentence."""
    async with front() as service:
        service.worker.answer = lambda request: worker_pb2.WorkResponse(
            status=worker_pb2.WORK_STATUS_INVALID_ARGUMENT, reason="IMAGE_TRUNCATED", message="the image is cut off"
        )
        error = await refused(service.stub.Explain(explain()))
        ended = await waited(service, (await create(service)).name)
        assert ended.error.SerializeToString() == dict(error.trailing_metadata())[KEY]
        assert said(ended).state == job_pb2.JOB_STATE_FAILED
        info = error_details_pb2.ErrorInfo()
        assert ended.error.details[0].Unpack(info)
        assert info.reason == "IMAGE_TRUNCATED"


async def queued(service: Front, name: str) -> job_pb2.ExplanationJobMetadata:
    """The job as it waits between two tries: it is running whenever it has just been taken up again."""
    async with asyncio.timeout(10):
        while (metadata := said(await get(service, name))).state != job_pb2.JOB_STATE_QUEUED:
            await asyncio.sleep(0.002)
    return metadata


@pytest.mark.parametrize("problem", ["no room", "no worker"])
async def test_a_job_waits_for_room_and_for_workers(problem: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What Explain would refuse at once, a job survives; waiting is no attempt."""
    async with front() as service:
        if problem == "no room":
            service.worker.error = NoRoomError("full")
            service.worker.error.retry_after = 0.01  # type: ignore[attr-defined]
        else:
            monkeypatch.setattr(WorkerUnavailableError, "retry_after", 0.01)
            service.catalog.set_state(MODEL, types_pb2.MODEL_STATE_UNAVAILABLE)
        made = await create(service)
        await until(lambda: service.jobs._runner._waits.total() > 0)
        await queued(service, made.name)
        service.worker.error = None
        service.catalog.set_state(MODEL, types_pb2.MODEL_STATE_READY)
        ended = await waited(service, made.name)
        assert ended.HasField("response")
        assert said(ended).attempts == 1


async def test_a_job_waits_for_the_workers_of_its_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    """The model has others, but those of the slow lane are not there; waiting for them is no attempt, either."""
    monkeypatch.setattr(WorkerUnavailableError, "retry_after", 0.01)
    async with front(lanes=(Lane.FAST, Lane.SLOW)) as service:
        service.worker.add_lanes(Lane.SLOW, ready=0)
        await service.monitor.look()
        made = await create(service, explain(method=method_pb2.Method(rise=method_pb2.Rise())))
        await until(lambda: service.jobs._runner._waits.total() > 3)
        assert (await queued(service, made.name)).attempts == 0
        service.worker.add_lanes(Lane.SLOW)
        await service.monitor.look()
        ended = await waited(service, made.name)
        assert (ended.HasField("response"), said(ended).attempts) == (True, 1)


async def test_jobs_survive_a_restart(tmp_path: Path) -> None:
    """The ended one is there with its result, the running one is done again, the waiting one gets its turn."""
    settings = {"jobs_database": tmp_path / "state" / "jobs.sqlite", "jobs_concurrency": 1}
    async with front(**settings) as service:
        ended = await waited(service, (await create(service, request_id="1")).name)
        service.worker.gate.clear()
        rest = [await create(service, request_id=each) for each in ("2", "3")]
        await until(lambda: len(service.worker.requests) == 2)
        waiting = asyncio.ensure_future(waited(service, rest[0].name))
        await asyncio.sleep(0.05)
        await service.jobs.drain()
        assert not (await waiting).done
        error = await refused(create(service, request_id="4"))  # type: ignore[arg-type]
        assert (error.code(), details(error)["ErrorInfo"].reason) == (grpc.StatusCode.UNAVAILABLE, "DRAINING")  # type: ignore[attr-defined]
    async with front(**settings) as service:
        assert await get(service, ended.name) == ended
        for made in rest:
            again = await waited(service, made.name)
            assert again.HasField("response")
            assert said(again).attempts == 1
        assert [(await create(service, request_id=each)).name for each in ("1", "2", "3")] == [
            each.name for each in (ended, *rest)
        ]
        assert len((await listed(service)).operations) == 3
        assert len(service.worker.requests) == 2


async def test_a_client_that_is_gone_gets_no_work(tmp_path: Path) -> None:
    """Its jobs end with PERMISSION_DENIED when their turn comes; so do those of one that lost the role."""
    settings = {"jobs_database": tmp_path / "jobs.sqlite"}
    path = write_clients(tmp_path / "clients.toml", entry("a", "explain"), entry("b", "explain"))
    async with front(clients_file=path, **settings) as service:
        service.worker.gate.clear()
        made = [await create(service, metadata=bearer(each)) for each in ("a", "b")]
    write_clients(path, entry("b", "audit"), entry("c", "explain"))
    async with front(clients_file=path, **settings) as service:
        await until(lambda: service.metrics.jobs.states.labels("failed")._value.get() == 2)
        assert service.worker.requests == []
        write_clients(path, entry("a", "explain"), entry("b", "explain"))
        await asyncio.sleep(0.2)
        codes = [(await get(service, each.name, bearer(name))).error for each, name in zip(made, "ab", strict=True)]
        assert {each.code for each in codes} == {code_pb2.PERMISSION_DENIED}


@pytest.mark.parametrize("call", [get, waited, listed])
async def test_a_result_is_rounded_for_whoever_reads_it(call: Callable[..., Awaitable[object]], tmp_path: Path) -> None:
    """To the caller's precision now, which may be another than when the job was made."""
    path = two_clients(tmp_path, precision="full")
    async with front(clients_file=path) as service:
        service.worker.answer = precise
        made = await create(service, metadata=bearer("a"))
        await waited(service, made.name, bearer("a"))

        async def read() -> tuple[float, int, str]:
            got = await (listed(service, bearer("a")) if call is listed else call(service, made.name, bearer("a")))
            response = answer(got.operations[0] if isinstance(got, lro.ListOperationsResponse) else got)  # type: ignore[arg-type]
            return (
                response.predictions[0].logit,
                response.predictions[0].probability,
                types_pb2.Precision.Name(response.provenance.precision),
            )

        assert await read() == (2.0, pytest.approx(0.123456789), "PRECISION_FULL")
        two_clients(tmp_path, precision="coarse")
        await asyncio.sleep(0.2)
        assert await read() == (0.0, pytest.approx(0.12), "PRECISION_COARSE")


async def test_a_coarse_client_cannot_ask_for_pictures(tmp_path: Path) -> None:
    """The same refusal as of Explain, before there is a job."""
    async with front(clients_file=two_clients(tmp_path, precision="coarse")) as service:
        error = await refused(create(service, explain(output={"map_png": True}), bearer("a")))  # type: ignore[arg-type]
        assert details(error)["ErrorInfo"].reason == "PRECISION_TOO_LOW"  # type: ignore[attr-defined]


async def test_the_quota_is_charged_once_when_the_job_is_made(tmp_path: Path) -> None:
    """Not for the same request again, and not by the work itself."""
    async with front(clients_file=two_clients(tmp_path, explanations_per_minute=2)) as service:
        for _ in range(3):
            made = await create(service, metadata=bearer("a"), request_id="r1")
        await waited(service, made.name, bearer("a"))
        second = await create(service, metadata=bearer("a"))
        assert (await waited(service, second.name, bearer("a"))).HasField("response")
        error = await refused(create(service, metadata=bearer("a")))  # type: ignore[arg-type]
        assert details(error)["ErrorInfo"].reason == "QUOTA_EXCEEDED"  # type: ignore[attr-defined]
        assert len((await listed(service, bearer("a"))).operations) == 2


async def test_waiting_ends_at_the_timeout_or_before_the_deadline() -> None:
    """With the job as it is then; no waiter ever gets DEADLINE_EXCEEDED for it."""
    async with front(default_timeout=0.2) as service:
        service.worker.gate.clear()
        made = await create(service)
        for request, deadline in (
            (lro.WaitOperationRequest(name=made.name, timeout=Duration(nanos=10_000_000)), None),
            (lro.WaitOperationRequest(name=made.name), 1.0),
            (lro.WaitOperationRequest(name=made.name), None),
            (lro.WaitOperationRequest(name=made.name, timeout=Duration(seconds=-5)), None),
        ):
            began = time.monotonic()
            assert not (await service.operations.WaitOperation(request, timeout=deadline)).done
            assert time.monotonic() - began < 1.0


async def test_a_full_disk_refuses_jobs_and_nothing_else(tmp_path: Path) -> None:
    """RESOURCE_EXHAUSTED with a time to try again; what was accepted is done, and with room jobs are taken again."""
    async with front(jobs_database=tmp_path / "jobs.sqlite") as service:
        first = await waited(service, (await create(service)).name)
        database = service.jobs._store.database
        await database.do(lambda connection: connection.execute("PRAGMA max_page_count = 1"))
        error = await refused(create(service, explain(image=b"x" * 100_000)))  # type: ignore[arg-type]
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details(error)["ErrorInfo"].reason == "STORAGE_FULL"  # type: ignore[attr-defined]
        assert "RetryInfo" in details(error)
        await service.stub.Explain(explain())
        assert await get(service, first.name) == first
        await database.do(lambda connection: connection.execute("PRAGMA max_page_count = 100000"))
        assert (await waited(service, (await create(service)).name)).HasField("response")


async def test_a_damaged_database_keeps_the_service_from_starting(tmp_path: Path) -> None:
    """With a sentence for the operator."""
    path = tmp_path / "jobs.sqlite"
    path.write_bytes(b"this is no database" * 100)
    service, settings = Front(FakeWorker(), Settings(_env_file=None)), Settings(_env_file=None, jobs_database=path)
    known = (service.catalog, service.explaining, Gate(None), service.metrics, NoTracing())
    with pytest.raises(StartError, match="jobs database is damaged"):
        async with parts.jobs_of(settings, *known):
            pass


async def test_lists_are_filtered_and_paged() -> None:
    """Newest first; ended ones, or those that are not."""
    async with front(jobs_concurrency=1) as service:
        names = [(await create(service)).name for _ in range(3)]
        for name in names:
            await waited(service, name)
        service.worker.gate.clear()
        running = (await create(service)).name
        done = await listed(service, name="operations", filter="done = true", page_size=2)
        rest = await listed(service, filter="done=true", page_size=2, page_token=done.next_page_token)
        assert [each.name for each in (*done.operations, *rest.operations)] == names[::-1]
        assert not rest.next_page_token
        assert [each.name for each in (await listed(service, filter="done=false")).operations] == [running]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"name": "jobs"}, "name"),
        ({"filter": "done=maybe"}, "filter"),
        ({"page_size": -1}, "page_size"),
        ({"page_token": "???"}, "page_token"),
        ({"page_token": "YWZ0ZXIgMQ=="}, "page_token"),
    ],
)
async def test_an_unacceptable_list_is_named(fields: dict[str, object], field: str) -> None:
    """INVALID_ARGUMENT with the field."""
    async with front() as service:
        error = await refused(listed(service, **fields))  # type: ignore[arg-type]
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert [each.field for each in details(error)["BadRequest"].field_violations] == [field]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"request_id": "a b"}, "request_id"),
        ({"request_id": "x" * 65}, "request_id"),
        ({"timeout": Duration(nanos=1)}, "timeout"),
        ({"timeout": Duration(seconds=601)}, "timeout"),
        ({"ttl": Duration(seconds=-1)}, "ttl"),
        ({"ttl": Duration(seconds=2**40)}, "ttl"),
        ({"request": explain(image=b"")}, "image"),
    ],
)
async def test_an_unacceptable_job_is_named(fields: dict[str, object], field: str) -> None:
    """At once, as Explain would; there is no job then."""
    async with front() as service:
        error = await refused(create(service, **fields))  # type: ignore[arg-type]
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert [each.field for each in details(error)["BadRequest"].field_violations] == [field]  # type: ignore[attr-defined]
        assert not (await listed(service)).operations


async def test_jobs_are_counted_and_logged_without_what_is_in_them(caplog: pytest.LogCaptureFixture) -> None:
    """By state, by end, and by the calls about them."""
    caplog.set_level("INFO")
    async with front() as service:
        made = await create(service, explain(image=IMAGE + b"Jane Doe"))
        await waited(service, made.name)
        value = service.metrics.registry.get_sample_value
        ended = {"model": MODEL, "method": "grad_cam"}
        assert value("whylight_jobs_finished_total", {**ended, "code": "OK"}) == 1
        assert value("whylight_job_duration_seconds_count", ended) == 1
        assert value("whylight_degenerate_maps_total", ended) == 0
        await until(lambda: value("whylight_jobs", {"state": "succeeded"}) == 1)
        assert value("whylight_jobs", {"state": "running"}) == 0
        calls = {"rpc": "WaitOperation", "model": "", "method": "", "code": "OK"}
        assert value("whylight_requests_total", calls) == 1
        assert made.name.removeprefix("operations/") in caplog.text
        assert "Jane" not in caplog.text


async def test_a_model_without_workers_takes_jobs_but_an_unknown_one_does_not() -> None:
    """A job is for later; what can never be is refused at once."""
    async with front() as service:
        service.worker.workers = {MODEL: ModelWorkers(MODEL, ready=0, total=1, versions=("1.0",))}
        await service.monitor.look()
        made = await create(service)
        assert not (await get(service, made.name)).done
        for request in (explain(model="other"), explain(model_version="9")):
            assert (await refused(create(service, request))).code() is grpc.StatusCode.NOT_FOUND  # type: ignore[arg-type]


async def test_the_steps_of_a_running_job_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it runs, and no longer."""
    async with front() as service:

        async def explain_in_steps(command: object, model: object, deadline: float, watch: object) -> None:
            watch.progress(worker_pb2.Progress(step=3, steps=7, objective=0.25))  # type: ignore[attr-defined]
            await asyncio.Event().wait()

        monkeypatch.setattr(service.explaining, "explain_charged", explain_in_steps)
        made = await create(service)
        await until(lambda: service.jobs._runner.progress(made.name.removeprefix("operations/")) is not None)
        metadata = said(await get(service, made.name))
        assert (metadata.step, metadata.steps, metadata.objective) == (3, 7, 0.25)
        await cancel(service, made.name)
        metadata = said(await get(service, made.name))
        assert (metadata.step, metadata.HasField("objective")) == (0, False)
