"""A real Prometheus scrapes the running service: every query of every rule and dashboard returns data."""

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from protos.explain.v1 import method_pb2
from service.launch import Launched
from tests.deploy.prometheus_tools import ToolsMissingError, find_tools
from tests.deploy.queries import (
    DASHBOARDS,
    alerts,
    dashboard,
    filled,
    label_queries,
    looking_back,
    metric_names,
    panels,
    recordings,
)
from tests.deploy.server import Prometheus, running
from tests.e2e.test_service import IMAGE, MODELS, explain

pytestmark = pytest.mark.e2e
# The second service measures the quality of its explanations.
SERVICE, SAMPLED = "whylight", "sampled"
# What a dashboard on the last minutes would fill in. `.+` where it has `.*`: that would match a misspelt label, too.
VALUES = {"__rate_interval": "30s", "job": ".+", "model": ".+", "method": ".+"}
SECONDS = 20.0


def send_some(stub: api_grpc.ExplanationServiceStub) -> None:
    """Predictions, explanations, a job, a listing, a call given up, and the mistakes that clients make."""
    for model in MODELS:
        for no_cache in (True, False):
            stub.Predict(api.PredictRequest(model=model, image=IMAGE, no_cache=no_cache))
            stub.Explain(explain(model=model, no_cache=no_cache))
    stub.ListModels(api.ListModelsRequest())
    stub.CreateExplanationJob(api.CreateExplanationJobRequest(request=explain()))
    cancelled = stub.Explain.future(explain(method=method_pb2.Method(opti_cam=method_pb2.OptiCam()), no_cache=True))
    time.sleep(0.1)
    cancelled.cancel()
    for wrong in (explain(model="nobody"), explain(b"no image")):
        with contextlib.suppress(grpc.RpcError):
            stub.Explain(wrong)


def send_samples(stub: api_grpc.ExplanationServiceStub) -> None:
    """Explanations of the one model of the second service, which measures each."""
    stub.Explain(explain(no_cache=True))


@contextlib.contextmanager
def again_and_again(work: Callable[[], None], pause: float) -> Iterator[None]:
    """Do something in the background: a rate needs changes between scrapes."""
    stop = threading.Event()

    def loop() -> None:
        while not stop.wait(pause):
            with contextlib.suppress(grpc.RpcError):  # on a busy machine a call may be refused; the next one counts
                work()

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture(scope="module")
def prometheus(
    service: Launched,
    sampled: Launched,
    stub: api_grpc.ExplanationServiceStub,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Prometheus]:
    """Prometheus on both services under traffic, with everything that the rules record from it."""
    try:
        tools = find_tools()
    except ToolsMissingError as error:
        pytest.skip(str(error))
    targets = {SERVICE: urlsplit(service.metrics).netloc, SAMPLED: urlsplit(sampled.metrics).netloc}
    with (
        grpc.insecure_channel(sampled.address) as channel,
        again_and_again(lambda: send_some(stub), 0.2),
        again_and_again(lambda: send_samples(api_grpc.ExplanationServiceStub(channel)), 1.0),
        running(tools, targets, tmp_path_factory.mktemp("prometheus")) as started,
    ):
        yield started


def without_data(prometheus: Prometheus, queries: dict[str, str]) -> dict[str, str]:
    """The queries, by any name, that return nothing, after waiting a while for them."""
    deadline = time.monotonic() + SECONDS
    while queries and time.monotonic() < deadline:
        queries = {name: expr for name, expr in queries.items() if not prometheus.series(expr)}
        if queries:
            time.sleep(0.25)
    return queries


def test_every_recording_rule_records(prometheus: Prometheus) -> None:
    """Each rule's expression gives numbers, and so does its name. The week before is left to the promtool tests."""
    here = [rule for rule in recordings() if rule.name not in looking_back()]
    assert len(here) > 10
    assert without_data(prometheus, {f"{rule.name} =": rule.expr for rule in here}) == {}
    assert without_data(prometheus, {rule.name: rule.name for rule in here}) == {}
    for rule in recordings():
        prometheus.series(rule.expr)


def test_rules_are_evaluated_without_errors(prometheus: Prometheus) -> None:
    """Prometheus itself found nothing wrong with any rule, alerts included, and no alert fires on a sound service."""
    groups = prometheus.get("rules")["groups"]
    assert isinstance(groups, list)
    found = [rule for group in groups for rule in group["rules"]]
    assert len(found) == len(recordings()) + len(alerts())
    assert {rule["name"]: rule["lastError"] for rule in found if rule.get("lastError")} == {}
    firing = [rule["name"] for rule in found if rule.get("state") == "firing"]
    assert firing == []


def test_every_alert_has_what_it_looks_at(prometheus: Prometheus) -> None:
    """Each alert can be evaluated, and each metric in it has data: silence means that all is well."""
    for alert in alerts():
        prometheus.series(alert.expr)
    names = {name for alert in alerts() for name in metric_names(alert.expr)} - looking_back()
    assert without_data(prometheus, {name: name for name in names}) == {}


def test_every_query_of_the_dashboards_returns_data(prometheus: Prometheus) -> None:
    """The service's dashboard from the service alone, the quality one from both; and legends name real labels."""
    queries, legends = {}, {}
    for path in DASHBOARDS:
        values = {**VALUES, "job": SERVICE} if path.stem == "service" else VALUES
        for target in (
            target for panel in panels() if panel.dashboard == path.stem for target in panel.body["targets"]
        ):
            expr = filled(target["expr"], path, values)
            if metric_names(expr) & looking_back():
                prometheus.series(expr)
            else:
                queries[expr], legends[expr] = expr, set(re.findall(r"{{(\w+)}}", target["legendFormat"]))
    assert len(queries) > 30
    assert without_data(prometheus, queries) == {}
    for expr, labels in legends.items():
        assert labels <= {label for series in prometheus.series(expr) for label in series}, expr


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_every_variable_of_the_dashboards_has_values(prometheus: Prometheus, path: Path) -> None:
    """The lists at the top of a dashboard offer jobs, models and methods; its annotations can be asked for."""
    queries = {
        label: f"count by ({label}) ({filled(selector, path, VALUES)})" for selector, label in label_queries(path)
    }
    assert len(queries) == 3
    assert without_data(prometheus, queries) == {}
    for label, expr in queries.items():
        assert any(series.get(label) for series in prometheus.series(expr))
    for annotation in dashboard(path)["annotations"]["list"]:
        if "expr" in annotation:
            prometheus.series(annotation["expr"])


def test_the_services_own_maps_are_counted_for_the_quality_rules(prometheus: Prometheus) -> None:
    """What needs no sampling comes from the service itself."""
    name = f'model_method:explain_quality_degenerate_maps:ratio_rate1h{{job="{SERVICE}"}}'
    assert without_data(prometheus, {name: name}) == {}
    assert without_data(prometheus, {"alias": f'request_explain_seconds_count{{job="{SERVICE}"}}'}) == {}
