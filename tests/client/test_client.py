"""Both clients against the service's front, over a real connection."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import numpy as np
import pytest

import whylight_client as wl
from model_store.lanes import Lane
from service.errors import NoRoomError, WorkerUnavailableError
from tests.client.answers import GRID, HEIGHT, LEFT, SIDE, TOP, WIDTH, complete, picture
from tests.service.fakes import LABELS, MODEL, Front, front
from tests.service.identity.certificates import Authority
from tests.service.identity.people import entry, write_clients
from whylight_client import errors
from whylight_client.images import decode

IMAGE = b"any bytes: the worker decodes"


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[Front]:
    """The front with answers that have something of everything."""
    async with front(**settings) as service:
        service.worker.answer = complete
        yield service


async def in_thread(service: Front, ask: Callable[[wl.Client], Any], **access: Any) -> Any:
    """What the waiting client gets; the front runs in this loop."""

    def go() -> Any:
        with wl.Client(service.address, **access) as client:
            return ask(client)

    return await asyncio.to_thread(go)


class Failing:
    """Makes the fake worker fail for the first few requests."""

    def __init__(self, service: Front, error: Exception, failures: int) -> None:
        self.requests = 0
        self._failures, self._error, self._send = failures, error, service.worker.send
        service.worker.send = self.send  # type: ignore[method-assign]

    async def send(self, model: str, body: bytes, timeout: float) -> bytes:
        self.requests += 1
        if self.requests <= self._failures:
            raise self._error
        return await self._send(model, body, timeout)


async def test_an_explanation_has_all_that_the_service_says() -> None:
    """Scores, maps on both grids, figures, provenance that can be asked for again, and pictures."""
    async with served() as service:
        result = await in_thread(
            service, lambda client: client.explain(picture(), model=MODEL, targets=["cat", 1], quality=["average_drop"])
        )
    assert (result.predictions[0].label, result.predictions[0].logit) == ("dog", 2.0)
    assert [each.target.index for each in result.explanations] == [0, 1]
    assert result.target.index == 0
    np.testing.assert_array_equal(result.native, GRID)
    assert result.saliency.shape == (HEIGHT, WIDTH)
    assert result.saliency.dtype == np.float32
    assert not result.saliency.flags.writeable
    assert result.saliency[TOP + 1, LEFT + SIDE - 2] == pytest.approx(0.25)
    (figure,) = result.quality
    assert (figure.metric, figure.value, figure.higher_is_better) == ("average_drop", 12.5, False)
    assert result.provenance.method == wl.Method("grad_cam")
    assert result.provenance.precision == "FULL"
    assert result.timings.compute == pytest.approx(0.001)
    assert "not show where" in result.interpretation
    overlay = result.overlay("inferno", opacity=1.0)
    assert overlay.size == (WIDTH, HEIGHT)
    np.testing.assert_array_equal(np.asarray(decode(result.to_png("inferno", 1.0))), np.asarray(overlay))


async def test_a_prediction_and_the_lists() -> None:
    """The waiting client's other calls."""
    async with served() as service:
        predicted, models, model, methods, metrics = await in_thread(
            service,
            lambda client: (
                client.predict(IMAGE, model=MODEL, top_k=3),
                client.models(),
                client.model(MODEL),
                client.methods(MODEL),
                client.metrics(),
            ),
        )
        assert service.worker.requests[0].image.top_k == 3
    assert [each.label for each in predicted.predictions] == ["dog"]
    assert predicted.provenance.method is None
    assert [(each.name, each.state, each.labels) for each in models] == [(MODEL, "READY", ())]
    assert model.labels == LABELS
    assert model.methods == ("grad_cam", "layer_cam", "rise")
    assert model.unsupported == {"cam": "it has no linear head"}
    assert {each.name: each.lane for each in methods} == {"grad_cam": "FAST", "layer_cam": "FAST", "rise": "SLOW"}
    assert methods[1].parameters[1].type == "STRING_LIST"
    assert [each.name for each in metrics if each.compares] == ["rank_correlation"]


async def test_the_asyncio_client_answers_the_same() -> None:
    """Call by call, but for the ids and the times of each."""
    async with served() as service, wl.AsyncClient(service.address) as client:
        explained = await client.explain(picture(), model=MODEL, targets=wl.TopK(1))
        assert explained.target.label == "dog"
        np.testing.assert_array_equal(explained.native, GRID)
        assert (await client.predict(IMAGE, model=MODEL)).predictions[0].label == "dog"
        assert await client.models() == await in_thread(service, lambda waiting: waiting.models())
        assert await client.model(MODEL) == await in_thread(service, lambda waiting: waiting.model(MODEL))
        assert await client.methods() == await in_thread(service, lambda waiting: waiting.methods())
        assert await client.metrics() == await in_thread(service, lambda waiting: waiting.metrics())


async def test_a_stream_tells_typed_events() -> None:
    """The prediction, the fast map and the result, in both clients; closing it early ends the call."""
    asked: dict[str, Any] = {"model": MODEL, "method": "rise", "parameters": {"samples": 5}}
    expected = [wl.PredictionEvent, wl.PreviewEvent, wl.ResultEvent]
    async with served() as service, wl.AsyncClient(service.address) as client:
        events = await in_thread(service, lambda waiting: list(waiting.stream_explain(picture(), **asked)))
        assert [type(event) for event in events if not isinstance(event, wl.ProgressEvent)] == expected
        assert events[-1].result.provenance.method == wl.Method("rise", {"samples": 5})
        assert events[-1].result.overlay().size == (WIDTH, HEIGHT)
        streamed = [type(event) async for event in client.stream_explain(picture(), **asked)]
        assert streamed == expected
        early = client.stream_explain(picture(), **asked)
        assert isinstance(await anext(early), wl.PredictionEvent)
        await early.aclose()


async def test_wrong_fields_are_named() -> None:
    """The violations of the status, in the error and in its text."""
    async with served() as service, wl.AsyncClient(service.address) as client:
        with pytest.raises(wl.InvalidRequestError, match=r"INVALID_ARGUMENT: .*; top_k: ") as caught:
            await client.predict(IMAGE, model=MODEL, top_k=0)
    assert [each.field for each in caught.value.violations] == ["top_k"]
    assert caught.value.reason == "INVALID_REQUEST"
    assert caught.value.retry_after is None


@pytest.mark.parametrize(
    ("ask", "kind", "reason"),
    [
        (lambda client: client.explain(IMAGE, model="nobody"), wl.NotFoundError, "MODEL_NOT_FOUND"),
        (lambda asked: asked.explain(IMAGE, model=MODEL, method="cam"), wl.NotApplicableError, "METHOD_NOT_APPLICABLE"),
        (lambda client: list(client.stream_explain(IMAGE, model="nobody")), wl.NotFoundError, "MODEL_NOT_FOUND"),
        (lambda client: client.job("operations/" + "0" * 32).status(), wl.NotFoundError, "JOB_NOT_FOUND"),
    ],
)
async def test_each_status_has_an_error_of_its_own(
    ask: Callable[[wl.Client], Any], kind: type[wl.WhylightError], reason: str
) -> None:
    """With the service's reason, for programs."""
    async with served() as service:
        with pytest.raises(kind) as caught:
            await in_thread(service, ask)
        assert caught.value.reason == reason


async def test_a_call_ends_at_its_deadline() -> None:
    """The one of the call goes before the client's."""
    async with served() as service:
        service.worker.gate.clear()
        with pytest.raises(wl.DeadlineExceededError):
            await in_thread(service, lambda client: client.explain(IMAGE, model=MODEL, timeout=0.2), timeout=30)


@pytest.mark.parametrize("size", [10, 1_000_000])
@pytest.mark.parametrize("error", [WorkerUnavailableError("gone"), NoRoomError("full")])
async def test_what_finds_no_worker_or_no_room_is_tried_again(error: WorkerUnavailableError, size: int) -> None:
    """When the service says, large requests too."""
    error.retry_after = 0.01
    async with served() as service, wl.AsyncClient(service.address) as client:
        failing = Failing(service, error, failures=2)
        await client.predict(b"x" * size, model=MODEL)
        assert failing.requests == 3


async def test_what_would_wait_long_is_the_callers_to_decide() -> None:
    """It is told at once, with the time; so is everything of a client without new tries."""
    patient, quick = NoRoomError("full", retry_after=60), NoRoomError("full", retry_after=0.01)
    for error, retry in ((patient, True), (quick, False)):
        async with served() as service, wl.AsyncClient(service.address, retry=retry) as client:
            failing = Failing(service, error, failures=9)
            with pytest.raises(wl.NoRoomError, match="try again in") as caught:
                await client.predict(IMAGE, model=MODEL)
            assert failing.requests == 1
            assert caught.value.retry_after == error.retry_after


async def test_nobody_at_the_address_is_unavailable() -> None:
    """Without any reason, since nothing of the service answered."""
    with wl.Client("127.0.0.1:1", timeout=20) as client, pytest.raises(wl.UnavailableError) as caught:
        await asyncio.to_thread(client.models)
    assert caught.value.reason == ""
    assert "is it running, at this address" in caught.value.message


@pytest.mark.parametrize(("details", "said"), [("Deadline Exceeded", "longer timeout"), ("too late", "too late")])
def test_a_call_that_was_too_slow_says_what_to_do(details: str, said: str) -> None:
    """gRPC itself says no more than the status; what the service says stays."""
    failed = SimpleNamespace(
        code=lambda: grpc.StatusCode.DEADLINE_EXCEEDED, details=lambda: details, trailing_metadata=lambda: None
    )
    assert said in errors.from_call(failed).message


async def test_a_request_too_large_for_grpc_is_invalid_and_not_for_want_of_room() -> None:
    """Who waits and tries again for want of room would do so for ever."""
    async with served(max_image_bytes=1024) as service, wl.AsyncClient(service.address) as client:
        with pytest.raises(wl.InvalidRequestError, match="larger than the service takes") as caught:
            await client.explain(bytes(200_000), model=MODEL)
    assert caught.value.reason == "REQUEST_TOO_LARGE"


async def test_tls_certificate_and_token(tmp_path: Path) -> None:
    """With all three the client is known; with a wrong token it is refused."""
    authority = Authority()
    certificate, key = authority.for_server().write(tmp_path, "server")
    own = authority.issue("viewer").write(tmp_path, "viewer")
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    secured = {
        "tls_certificate": certificate,
        "tls_key": key,
        "tls_client_ca": tmp_path / "ca.pem",
        "clients_file": write_clients(
            tmp_path / "clients.toml", entry("viewer", "explain", certificate="viewer", shows="right")
        ),
    }
    credentials = authority.trusted_by(authority.issue("viewer"))
    async with served(credentials=credentials, **secured) as service:
        access: dict[str, Any] = {"tls": tmp_path / "ca.pem", "certificate": own, "token": "right"}
        result = await in_thread(service, lambda client: client.explain(picture(), model=MODEL), **access)
        assert result.provenance.precision == "STANDARD"
        assert result.target.logit is None
        assert result.explanations[0].map.raw_range is None
        np.testing.assert_allclose(result.native, GRID, atol=1 / 65535)
        with pytest.raises(wl.UnauthenticatedError):
            await in_thread(service, lambda client: client.models(), **{**access, "token": "wrong"})


async def test_an_explanation_without_its_image_is_drawn_on_a_given_one() -> None:
    """A job of another process knows its image no more; one of another size is refused."""
    async with served() as service:

        def ask(client: wl.Client) -> wl.ExplainResult:
            return client.job(client.explain_later(picture(), model=MODEL).name).result(20)

        result = await in_thread(service, ask)
    with pytest.raises(ValueError, match="without its image"):
        result.overlay()
    assert result.overlay(image=picture()).size == (WIDTH, HEIGHT)
    with pytest.raises(ValueError, match="pixels"):
        result.overlay(image=np.zeros((4, 4), np.uint8))


async def test_a_job_is_followed_to_its_end() -> None:
    """Its state while it waits, its result, the list of jobs; deleted it is unknown."""
    async with served(lanes=(Lane.FAST,)) as service, wl.AsyncClient(service.address) as client:
        service.worker.gate.clear()
        job = await client.explain_later(picture(), model=MODEL, request_id="visit-1", compute_timeout=60, ttl=120)
        assert not (await job.wait(0.05)).done
        with pytest.raises(TimeoutError):
            await job.result(0.05)
        service.worker.gate.set()
        result = await job.result(20)
        assert result.overlay().size == (WIDTH, HEIGHT)
        status = await job.status()
        assert (status.state, status.done) == ("SUCCEEDED", True)
        assert (status.request_id, status.method) == ("visit-1", "grad_cam")
        assert status.created is not None
        assert status.created.tzinfo is not None
        assert [each.name async for each in client.jobs(done=True)] == [job.name]
        assert await in_thread(service, lambda waiting: [each.name for each in waiting.jobs()]) == [job.name]
        await job.delete()
        with pytest.raises(wl.NotFoundError):
            await job.status()


async def test_a_cancelled_job_has_no_result() -> None:
    """It ends with the error that says so, in both clients."""
    async with served() as service, wl.AsyncClient(service.address) as client:
        service.worker.gate.clear()
        for job in (await client.explain_later(IMAGE, model=MODEL), await client.explain_later(b"other", model=MODEL)):
            await job.cancel()
            with pytest.raises(wl.CancelledError):
                await in_thread(service, lambda waiting, name=job.name: waiting.job(name).result(20))


def test_a_status_that_cannot_be_read_is_still_an_error_of_ours() -> None:
    """Without a reason; and a status that has no class is the base."""

    class Failed:
        def code(self) -> Any:
            return errors.grpc.StatusCode.DATA_LOSS

        def details(self) -> None:
            return None

        def trailing_metadata(self) -> Any:
            return (("grpc-status-details-bin", b"\xff"),)

    error = errors.from_call(Failed())
    assert (type(error), error.reason, str(error)) == (wl.WhylightError, "", "DATA_LOSS: ")
