"""A bounded part of the long run of benchmarks/fuzz.py: whatever is sent, the answer has a documented status."""

import contextlib
import random

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from handlers.describe import describe
from handlers.errors import ImageError
from handlers.images import decode
from handlers.worker import Worker
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import types_pb2
from protos.worker.v1 import worker_pb2
from service.catalog import Catalog
from service.converters.to_command import to_explain_command
from service.errors import ServiceError
from tests.fuzz import requests, targets
from tests.fuzz.mutations import Mutator

SEED = 20_261_121
MESSAGES = 1500
BOUNDED = settings(max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck))


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Worker:
    return targets.tiny_worker(tmp_path_factory.mktemp("tiny"))


async def test_the_front_answers_every_message_with_a_documented_status(worker: Worker) -> None:
    """Over a real channel: no crash, no INTERNAL, no UNKNOWN, and google.rpc details in every error."""
    findings = targets.Findings()
    with targets.errors_logged() as lines:
        async with targets.fuzzed_front(worker) as service:
            await targets.fuzz_front(service, findings, SEED, iter(range(MESSAGES)))
    assert (findings.faults, lines) == ([], [])
    assert findings.statuses["front"].total() == MESSAGES
    assert findings.statuses["front"]["OK"] > MESSAGES // 10  # not everything is refused at the door


def test_the_worker_answers_every_message_with_a_documented_status(worker: Worker) -> None:
    """Decoding, conversion, every method and every metric, within the time that a message has."""
    findings = targets.Findings()
    with targets.errors_logged() as lines:
        for number in range(250):
            targets.fuzz_worker(worker, findings, SEED, number)
    assert (findings.faults, lines) == ([], [])
    assert findings.statuses["worker"]["OK"] > 25


def test_a_damaged_image_is_decoded_or_refused() -> None:
    """No error but ours."""
    findings = targets.Findings()
    for number in range(2000):
        targets.fuzz_image(findings, SEED, number)
    assert findings.faults == []


@BOUNDED
@given(source=st.randoms(use_true_random=False))
def test_a_command_is_made_or_refused(source: random.Random) -> None:
    """The front's own checks by hypothesis, which shrinks what fails: nothing but ServiceError comes out of them."""
    request = Mutator(source, requests.WORDS, requests.IMAGES).message(api.ExplainRequest.DESCRIPTOR)
    catalog = _catalog()
    with contextlib.suppress(ServiceError):
        to_explain_command(request, catalog.get(requests.MODEL), 10_000)  # type: ignore[arg-type]


@BOUNDED
@given(data=st.binary(max_size=300) | st.sampled_from(requests.IMAGES).flatmap(lambda image: st.just(image[:200])))
def test_bytes_are_an_image_or_refused(data: bytes) -> None:
    """Any bytes at all."""
    with contextlib.suppress(ImageError):
        decode(data, targets.LIMITS)


@pytest.fixture(autouse=True)
def _subnormal_numbers() -> None:
    """Hypothesis insists on them; workers, and sessions of ONNX Runtime, do without, and tests of before had some."""
    torch.set_flush_denormal(False)


_known: list[worker_pb2.DescribeResult] = []


@pytest.fixture(autouse=True, scope="module")
def _describe(worker: Worker) -> None:
    _known.append(describe(worker.model))


def _catalog() -> Catalog:
    catalog = Catalog()
    catalog.declare(requests.MODEL)
    catalog.set_state(requests.MODEL, types_pb2.MODEL_STATE_READY)
    catalog.describe(requests.MODEL, _known[0])
    return catalog
