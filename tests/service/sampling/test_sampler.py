"""Samples of live traffic: drawn without a client noticing, measured in a worker of their own."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from model_store.lanes import quality_lane
from protos.explain.v1 import explanation_service_pb2 as api
from protos.worker.v1 import worker_pb2
from service.errors import DeadlineError, InternalError, OutOfMemoryError, WorkerUnavailableError
from service.quality_metrics import OUTCOMES
from service.sampling import sampler as module
from service.sampling.policy import Policy, Rule
from tests.service.fakes import MODEL, Front, front, prediction
from tests.service.test_front import IMAGE, explain

EVERYTHING = Policy(rules=(Rule(share=1, steps=8),))
LABELS = {"model": MODEL, "version": "1.0", "method": "grad_cam"}
VALUES = {"average_drop": 25.0, "average_gain": 0.0, "average_increase": 100.0, "insertion": 0.75, "deletion": 0.125}


def explained(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
    """An explanation of class 1, or of those asked for, with the figures that are asked for."""
    response = prediction(request)
    del response.image.explanations[:]
    for index in request.image.class_indices or [1]:
        explanation = response.image.explanations.add(target={"index": index})
        for choice in request.image.quality.metrics:
            explanation.quality.add(metric=choice.name, value=VALUES[choice.name])
    response.image.resolved_method.grad_cam.layer = "resolved"
    return response


def outcomes(service: Front) -> dict[str, float]:
    """The counts that are not zero."""
    value = service.metrics.registry.get_sample_value
    counts = {each: value("explain_quality_samples_total", {**LABELS, "outcome": each}) for each in OUTCOMES}
    return {each: count for each, count in counts.items() if count}


async def measured(service: Front, count: int) -> None:
    """Let the sampler work until it has dealt with as many samples."""
    assert service.sampler is not None
    async with service.sampler.running(), asyncio.timeout(5):
        while sum(outcomes(service).values()) < count:
            await asyncio.sleep(0.001)


async def test_a_drawn_explanation_is_measured_in_a_worker_of_its_own() -> None:
    """The same image, class and resolved method go to the lane; the figures to the metrics, as shares."""
    async with front(EVERYTHING, quality_budget=1.0) as service:
        service.worker.answer = explained
        classes = api.ClassList(classes=[api.ClassReference(index=3), api.ClassReference(index=0)])
        response = await service.stub.Explain(explain(targets=api.Targets(classes=classes)))
        assert len(response.explanations) == 2
        assert not response.explanations[0].quality
        await measured(service, 1)
        assert service.worker.asked == [MODEL, quality_lane(MODEL)]
        request = service.worker.requests[1]
        assert request.image.image == IMAGE
        assert request.image.method.grad_cam.layer == "resolved"
        assert list(request.image.class_indices) == [3]
        assert [choice.name for choice in request.image.quality.metrics] == list(VALUES)
        steps = [dict(choice.parameters.items()) for choice in request.image.quality.metrics]
        assert steps == [{}, {}, {}, {"steps": 8}, {"steps": 8}]
        assert 50 < request.deadline.ToSeconds() - time.time() <= 60
        assert outcomes(service) == {"measured": 1}
        value = service.metrics.registry.get_sample_value
        names = {"average_drop": 0.25, "average_gain": 0.0, "insertion_auc": 0.75, "deletion_auc": 0.125}
        for name, expected in names.items():
            assert value(f"explain_quality_{name}_ratio_sum", LABELS) == expected
            assert value(f"explain_quality_{name}_ratio_count", LABELS) == 1
        assert value("explain_quality_score_increase_total", LABELS) == 1
        seconds = value("explain_quality_worker_seconds_total", LABELS)
        assert seconds is not None
        assert seconds > 0


async def test_curves_can_be_left_out() -> None:
    """With 0 steps the costly ones are not asked for."""
    async with front(Policy(rules=(Rule(share=1, steps=0),)), quality_budget=1.0) as service:
        service.worker.answer = explained
        await service.stub.Explain(explain())
        await measured(service, 1)
        names = [choice.name for choice in service.worker.requests[1].image.quality.metrics]
        assert names == ["average_drop", "average_gain", "average_increase"]


async def test_what_is_not_drawn_is_not_counted() -> None:
    """No rule, a share of 0, a sure prediction, or no explanation at all: only the client's own request is sent."""
    policy = Policy(rules=(Rule(method="cam", share=1), Rule(share=1, below_confidence=0.89)))
    async with front(policy) as service:
        service.worker.answer = explained
        await service.stub.Explain(explain())
        await service.stub.Predict(api.PredictRequest(model=MODEL, image=IMAGE))
        assert service.sampler is not None
        assert not service.sampler._waiting
        assert outcomes(service) == {}
    async with front(EVERYTHING) as service:
        await service.stub.Explain(explain())  # the fake worker explains nothing where no class is named
        assert service.sampler is not None
        assert not service.sampler._waiting


async def test_a_constant_map_is_counted_and_not_measured() -> None:
    """There is nothing to measure."""
    async with front(EVERYTHING) as service:
        classes = api.ClassList(classes=[api.ClassReference(index=0)])
        await service.stub.Explain(explain(targets=api.Targets(classes=classes)))
        assert outcomes(service) == {"degenerate": 1}
        assert service.sampler is not None
        assert not service.sampler._waiting


async def test_answers_never_wait_for_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the lane hangs, clients get answers; images wait up to a limit, others are skipped; then there is room."""
    monkeypatch.setattr(module, "MOST_BYTES", 3 * len(IMAGE))
    hanging = asyncio.Event()
    async with front(EVERYTHING, quality_budget=1.0) as service:
        service.worker.answer = explained
        original = service.worker.send

        async def send(model: str, body: bytes, timeout: float) -> bytes:
            if model == quality_lane(MODEL):
                await hanging.wait()
            return await original(model, body, timeout)

        service.worker.send = send  # type: ignore[method-assign]
        assert service.sampler is not None
        async with service.sampler.running():
            for _ in range(6):
                assert (await service.stub.Explain(explain(), timeout=5)).explanations
                await asyncio.sleep(0.01)
            assert outcomes(service) == {"skipped": 2}  # one is with the worker, three wait
            length = service.metrics.registry.get_sample_value
            assert length("explain_quality_queue_length") == 4
            hanging.set()
            async with asyncio.timeout(5):
                while outcomes(service) != {"skipped": 2, "measured": 4}:
                    await asyncio.sleep(0.001)
            await service.stub.Explain(explain())
            async with asyncio.timeout(5):
                while outcomes(service) != {"skipped": 2, "measured": 5}:
                    await asyncio.sleep(0.001)
        assert service.sampler._bytes == 0
        assert length("explain_quality_queue_length") == 0


def wrong(status: int = worker_pb2.WORK_STATUS_OK, **fields: object) -> worker_pb2.WorkResponse:
    return worker_pb2.WorkResponse(status=status, image=worker_pb2.ImageResult(**fields))


@pytest.mark.parametrize(
    "failure",
    [
        WorkerUnavailableError("no worker"),
        DeadlineError("too late"),
        OutOfMemoryError("no memory"),
        InternalError("broken"),
        b"\xff no message",
        wrong(worker_pb2.WORK_STATUS_INTERNAL).SerializeToString(),
        wrong(worker_pb2.WORK_STATUS_INVALID_ARGUMENT).SerializeToString(),
        wrong().SerializeToString(),
        wrong(explanations=[{"quality": [{"metric": "average_drop", "value": 250.0}]}]).SerializeToString(),
        wrong(explanations=[{"quality": [{"metric": "average_drop", "value": float("nan")}]}]).SerializeToString(),
    ],
)
async def test_a_failure_is_counted_and_the_next_sample_measured(
    failure: Exception | bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong, nothing of it is recorded as a figure, and nothing of the user is logged."""
    async with front(EVERYTHING, quality_budget=1.0) as service:
        service.worker.answer = explained
        for _ in range(2):
            await service.stub.Explain(explain())
        original, failures = service.worker.send, [failure]

        async def send(model: str, body: bytes, timeout: float) -> bytes:
            if not failures:
                return await original(model, body, timeout)
            failed = failures.pop()
            if isinstance(failed, Exception):
                raise failed
            return failed

        service.worker.send = send  # type: ignore[method-assign]
        await measured(service, 2)
        assert outcomes(service) == {"measured": 1, "failed": 1}
        value = service.metrics.registry.get_sample_value
        assert value("explain_quality_average_drop_ratio_count", LABELS) == 1
        assert "a quality sample of tiny failed" in caplog.text
        assert "any bytes" not in caplog.text


async def test_undefined_figures_are_left_out() -> None:
    """A figure without a value is no figure of zero."""

    def without_values(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
        response = explained(request)
        for figure in response.image.explanations[0].quality:
            if figure.metric != "insertion":
                figure.ClearField("value")
        return response

    async with front(EVERYTHING, quality_budget=1.0) as service:
        service.worker.answer = without_values
        await service.stub.Explain(explain())
        await measured(service, 1)
        value = service.metrics.registry.get_sample_value
        assert value("explain_quality_average_drop_ratio_count", LABELS) is None
        assert value("explain_quality_insertion_auc_ratio_count", LABELS) == 1
        assert outcomes(service) == {"measured": 1}


@pytest.mark.parametrize(("budget", "pause"), [(0.25, 6.0), (0.5, 2.0), (1.0, 0.0)])
async def test_the_budget(monkeypatch: pytest.MonkeyPatch, budget: float, pause: float) -> None:
    """After two seconds of work it rests as long as makes them that share of the time."""
    rests: list[float] = []
    clock = iter([10.0, 12.0, 20.0, 22.0])
    real_sleep = asyncio.sleep

    async def rest(seconds: float) -> None:
        rests.append(seconds)
        await real_sleep(0)

    async with front(EVERYTHING, quality_budget=budget) as service:
        service.worker.answer = explained
        for _ in range(2):
            await service.stub.Explain(explain())
        monkeypatch.setattr(module, "asyncio", SimpleNamespace(**{**vars(asyncio), "sleep": rest}))
        monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
        await measured(service, 2)
        await real_sleep(0.01)
        assert rests[:1] == [pytest.approx(pause)]
        assert service.metrics.registry.get_sample_value("explain_quality_worker_seconds_total", LABELS) in (2.0, 4.0)


async def test_it_ends_while_a_sample_is_measured() -> None:
    """Nothing is left running after the block, and the service need not wait for the lane."""
    async with front(EVERYTHING) as service:
        service.worker.answer = explained
        await service.stub.Explain(explain())
        service.worker.gate.clear()
        assert service.sampler is not None
        before = asyncio.all_tasks()
        async with asyncio.timeout(5), service.sampler.running():
            while len(service.worker.asked) < 2:
                await asyncio.sleep(0.001)
        assert asyncio.all_tasks() <= before
        assert outcomes(service) == {}
