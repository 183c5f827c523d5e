"""What is kept, for whom, and what never is."""

import pytest

from protos.explain.v1 import method_pb2
from protos.worker.v1 import worker_pb2
from service.cache import work
from service.commands import PredictCommand
from service.errors import InvalidRequestError, NoRoomError, ServiceError
from service.observation import CacheOutcome
from tests.service.cache.counted import MODEL, STAGES, Setup, describe, explain


async def test_the_same_request_is_answered_from_memory() -> None:
    """The same answer with its age and without anybody's timings; the worker is asked once."""
    setup = Setup()
    first, computed = await setup.ask()
    setup.now = 7.0
    second, kept = await setup.ask()
    assert len(setup.inner.commands) == 1
    assert list(second.predictions) == list(first.predictions)
    assert second.resolved_method == first.resolved_method
    assert (computed.cache.outcome, computed.stages) == (CacheOutcome.MISS, STAGES)
    assert (kept.cache.outcome, kept.cache.age, kept.stages) == (CacheOutcome.HIT, 7.0, {})
    assert not second.HasField("compute")
    assert (setup.outcome("miss"), setup.outcome("hit")) == (1, 1)


async def test_an_answer_is_kept_for_its_client_only() -> None:
    """The same request of another client is computed again, and so is what it says of images and methods."""
    setup = Setup()
    for client in ("viewer", "auditor", ""):
        _, seen = await setup.ask(client=client)
        assert seen.cache.outcome is CacheOutcome.MISS
    assert len(setup.inner.commands) == 3


async def test_a_default_and_its_value_written_out_are_the_same() -> None:
    """Once the worker has said what a method resolves to, it does not matter how a client writes it."""
    setup = Setup()
    await setup.ask(explain())
    _, written_out = await setup.ask(explain(layer="layer4"))
    _, other = await setup.ask(explain(layer="layer3"))
    assert written_out.cache.outcome is CacheOutcome.HIT
    assert other.cache.outcome is CacheOutcome.MISS


async def test_two_encodings_of_the_same_pixels_share_an_answer() -> None:
    """Once both are known to be the same; the image's own fields stay those of each file."""
    setup = Setup()
    await setup.ask(explain(b"pixels"))
    await setup.ask(PredictCommand(MODEL, b"PIXELS", 5))
    result, seen = await setup.ask(explain(b"PIXELS"))
    assert seen.cache.outcome is CacheOutcome.HIT
    assert result.image.format == "BMP"
    result, _ = await setup.ask(explain(b"pixels"))
    assert result.image.format == "PNG"
    assert len(setup.inner.commands) == 2


async def test_no_cache_neither_reads_nor_writes() -> None:
    """It is computed though an answer is kept, and what is computed is not kept."""
    setup = Setup()
    for _ in range(2):
        _, seen = await setup.ask(explain(no_cache=True))
        assert seen.cache.outcome is CacheOutcome.BYPASS
    _, seen = await setup.ask()
    assert seen.cache.outcome is CacheOutcome.MISS
    _, seen = await setup.ask(explain(no_cache=True))
    assert seen.cache.outcome is CacheOutcome.BYPASS
    assert len(setup.inner.commands) == 4


@pytest.mark.parametrize("changes", [{"version": "1.1"}, {"weights_digest": "sha256:2"}, {"device": "cuda:0"}])
async def test_a_model_that_is_deployed_anew_gives_no_old_answer(changes: dict[str, str]) -> None:
    """Another version, other weights, another device: computed again."""
    setup = Setup()
    await setup.ask()
    describe(setup.catalog, **changes)
    setup.inner.weights = changes.get("weights_digest", setup.inner.weights)
    _, seen = await setup.ask()
    assert seen.cache.outcome is CacheOutcome.MISS


async def test_an_answer_of_other_weights_than_the_catalogues_is_not_kept() -> None:
    """The worker was replaced before the service has noticed: neither model's later answers come from that one."""
    setup = Setup()
    setup.inner.weights = "sha256:2"
    await setup.ask()
    setup.inner.weights = "sha256:1"
    _, seen = await setup.ask()
    assert seen.cache.outcome is CacheOutcome.MISS


@pytest.mark.parametrize("error", [InvalidRequestError("unacceptable", ()), NoRoomError("full"), RuntimeError("fault")])
async def test_errors_are_not_kept(error: Exception) -> None:
    """The next request is computed, whatever the first one failed of."""
    setup = Setup()
    setup.inner.error = error
    with pytest.raises(ServiceError if isinstance(error, ServiceError) else RuntimeError):
        await setup.ask()
    setup.inner.error = None
    _, seen = await setup.ask()
    assert seen.cache.outcome is CacheOutcome.MISS


async def test_a_partial_answer_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request with more time gets the whole one."""
    setup = Setup()
    monkeypatch.setattr(work, "is_partial", lambda result: True)
    await setup.ask()
    monkeypatch.undo()
    _, seen = await setup.ask()
    assert seen.cache.outcome is CacheOutcome.MISS


async def test_without_a_digest_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that does not say what its answer depends on is asked every time."""
    setup = Setup()
    answer = setup.inner._answer

    def without(command: PredictCommand) -> worker_pb2.ImageResult:
        result = answer(command)
        result.ClearField("content_digest")
        return result

    monkeypatch.setattr(setup.inner, "_answer", without)
    for _ in range(2):
        _, seen = await setup.ask()
        assert seen.cache.outcome is CacheOutcome.MISS


async def test_what_is_too_old_is_computed_again() -> None:
    """After the setting's seconds."""
    setup = Setup()
    await setup.ask()
    setup.now = 3600.0
    _, seen = await setup.ask()
    assert seen.cache.outcome is CacheOutcome.MISS


async def test_a_kept_answer_cannot_be_changed_by_who_gets_it() -> None:
    """Answers are rounded in place to a client's precision: the next one is whole again."""
    setup = Setup()
    for _ in range(3):
        result, _ = await setup.ask()
        assert result.predictions[0].label == "number 1"
        result.predictions[0].label = "changed"
        result.resolved_method.CopyFrom(method_pb2.Method())
