"""The sanity check of each deployed version: asked for once, and kept."""

import dataclasses
import logging

import pytest

from model_store.lanes import quality_lane
from protos.explain.v1 import types_pb2
from protos.worker.v1 import worker_pb2
from service.catalog import Catalog
from service.errors import WorkerUnavailableError
from service.metrics import Metrics
from service.sanity import METHODS, SanityChecks
from tests.service.fakes import MODEL, FakeWorker, description

GOOD = types_pb2.SanityCheck(method="grad_cam", rank_correlation=0.25, passed=True, stages=4, images=2)
BAD = types_pb2.SanityCheck(method="tibav", rank_correlation=0.75, passed=False, stages=4, images=2)


class Deployed:
    """A catalogue with one model that is ready, and a worker that checks it."""

    def __init__(self) -> None:
        self.catalog, self.metrics, self.worker = Catalog(), Metrics(), FakeWorker()
        self.catalog.declare(MODEL)
        self.worker.answer = lambda _: worker_pb2.WorkResponse(
            status=worker_pb2.WORK_STATUS_OK, sanity=worker_pb2.SanityResult(checks=[GOOD, BAD])
        )
        self.checks = SanityChecks(self.catalog, self.worker, self.metrics.quality)  # type: ignore[arg-type]

    def describe(self, digest: str = "sha256:1") -> None:
        result = description()
        result.model.weights_digest = digest
        self.catalog.describe(MODEL, result)

    def gauge(self, method: str) -> float | None:
        labels = {"model": MODEL, "version": "1.0", "method": method}
        return self.metrics.registry.get_sample_value("explain_quality_randomisation_rank_correlation", labels)


async def test_a_model_is_checked_once_by_its_lane(caplog: pytest.LogCaptureFixture) -> None:
    """Catalogue and gauge say what was found; what hardly depends on the weights is logged."""
    deployed = Deployed()
    deployed.describe()
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            await deployed.checks.look()
    assert deployed.worker.asked == [quality_lane(MODEL)]
    assert tuple(deployed.worker.requests[0].sanity.methods) == METHODS
    assert deployed.catalog.get(MODEL).checks == (GOOD, BAD)
    assert (deployed.gauge("grad_cam"), deployed.gauge("tibav")) == (0.25, 0.75)
    assert [record.getMessage() for record in caplog.records] == ["maps of tiny by tibav hardly depend on its weights"]


async def test_a_model_that_was_never_ready_is_not_asked() -> None:
    """It is when it is ready."""
    deployed = Deployed()
    await deployed.checks.look()
    assert deployed.worker.asked == []
    deployed.describe()
    await deployed.checks.look()
    assert len(deployed.worker.asked) == 1


async def test_other_weights_are_checked_anew() -> None:
    """The same name with another digest is another model: what was found of the first one is not said of it."""
    deployed = Deployed()
    for count, digest in enumerate(("sha256:1", "sha256:2", "sha256:1"), start=1):
        deployed.describe(digest)
        assert deployed.catalog.get(MODEL).checks == ()
        await deployed.checks.look()
        assert deployed.catalog.get(MODEL).checks == (GOOD, BAD)
        assert len(deployed.worker.asked) == count


@pytest.mark.parametrize(
    "failure",
    [
        WorkerUnavailableError("not yet"),
        worker_pb2.WorkResponse(status=worker_pb2.WORK_STATUS_INTERNAL),
        worker_pb2.WorkResponse(status=worker_pb2.WORK_STATUS_DEADLINE_EXCEEDED),
    ],
)
async def test_a_failed_check_is_tried_again(failure: Exception | worker_pb2.WorkResponse) -> None:
    """At the next look; until then there is neither a check nor a figure."""
    deployed = Deployed()
    deployed.describe()
    good = deployed.worker.answer
    if isinstance(failure, Exception):
        deployed.worker.error = failure
    else:
        deployed.worker.answer = lambda _: failure
    await deployed.checks.look()
    assert deployed.catalog.get(MODEL).checks == ()
    assert deployed.gauge("grad_cam") is None
    deployed.worker.error, deployed.worker.answer = None, good
    await deployed.checks.look()
    assert deployed.catalog.get(MODEL).checks == (GOOD, BAD)


async def test_a_description_keeps_the_checks() -> None:
    """A worker that comes back describes itself again; what was found of the same weights stays."""
    deployed = Deployed()
    deployed.describe()
    await deployed.checks.look()
    before = deployed.catalog.get(MODEL)
    deployed.describe()
    assert deployed.catalog.get(MODEL) == dataclasses.replace(
        before, description=deployed.catalog.get(MODEL).description
    )
