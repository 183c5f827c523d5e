"""Live traffic is measured in the background: from a client's request to the figures that Prometheus scrapes."""

import time
import urllib.request
from collections.abc import Iterator

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from service.launch import Launched
from service.quality_metrics import FIGURES
from tests.e2e.test_service import SAMPLE, classes, explain

pytestmark = pytest.mark.e2e
MODEL = "digits-cnn"
EXPLANATIONS = 5
SECONDS = 90.0


@pytest.fixture(scope="module")
def sampled_stub(sampled: Launched) -> Iterator[api_grpc.ExplanationServiceStub]:
    """The API of the service that samples."""
    with grpc.insecure_channel(sampled.address) as channel:
        yield api_grpc.ExplanationServiceStub(channel)


def figure(service: Launched, name: str, **labels: str) -> float:
    """A sample of the exposition whose labels include these, summed over the others; 0 while there is none."""
    text = urllib.request.urlopen(service.metrics, timeout=10).read().decode()  # noqa: S310 - our own address
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def wait_for(service: Launched, least: float, name: str, **labels: str) -> float:
    """The sample, as soon as it is at least that."""
    deadline = time.monotonic() + SECONDS
    while (value := figure(service, name, **labels)) < least:
        assert time.monotonic() < deadline, f"{name} is {value} after {SECONDS:g} s"
        time.sleep(0.25)
    return value


def test_every_explanation_is_measured(sampled: Launched, sampled_stub: api_grpc.ExplanationServiceStub) -> None:
    """With a share of 1: each is counted, each figure has it, and no client gets to see any of it."""
    where = {"model": MODEL, "method": "layer_cam"}
    for _ in range(EXPLANATIONS):
        request = explain(method={"layer_cam": {}}, targets=classes(*SAMPLE["labels"]), no_cache=True)
        response = sampled_stub.Explain(request, timeout=30)
        assert not any(explanation.quality for explanation in response.explanations)
    samples = "explain_quality_samples_total"
    assert wait_for(sampled, EXPLANATIONS, samples, outcome="measured", **where) == EXPLANATIONS
    for outcome in ("failed", "skipped", "degenerate"):
        assert figure(sampled, samples, outcome=outcome, **where) == 0
    for name in FIGURES:
        assert figure(sampled, f"explain_quality_{name}_ratio_count", **where) == EXPLANATIONS
        assert 0 <= figure(sampled, f"explain_quality_{name}_ratio_sum", **where) <= EXPLANATIONS
    assert figure(sampled, "explain_quality_insertion_auc_ratio_sum", **where) > 0
    assert figure(sampled, "explain_quality_worker_seconds_total", **where) > 0
    assert figure(sampled, "explain_quality_maps_total", **where) == 2 * EXPLANATIONS


def test_the_model_was_checked(sampled: Launched, sampled_stub: api_grpc.ExplanationServiceStub) -> None:
    """GetModel and the gauge say the same of the maps' dependence on the weights."""
    gauge = "explain_quality_randomisation_rank_correlation"
    deadline = time.monotonic() + SECONDS
    while not (checks := sampled_stub.GetModel(api.GetModelRequest(model=MODEL)).model.sanity_checks):
        assert time.monotonic() < deadline, "no sanity check"
        time.sleep(0.25)
    assert [check.method for check in checks] == ["grad_cam"]  # tibav is for transformers
    assert checks[0].passed
    assert figure(sampled, gauge, model=MODEL, method="grad_cam") == pytest.approx(checks[0].rank_correlation)
    (listed,) = sampled_stub.ListModels(api.ListModelsRequest()).models
    assert (listed.name, len(listed.sanity_checks)) == (MODEL, 0)


def test_a_service_that_does_not_sample_measures_nothing(
    service: Launched, stub: api_grpc.ExplanationServiceStub
) -> None:
    """By default there are neither samples nor sanity checks."""
    stub.Explain(explain())
    assert figure(service, "explain_quality_samples_total") == 0
    assert not stub.GetModel(api.GetModelRequest(model=MODEL)).model.sanity_checks
