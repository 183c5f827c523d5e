"""What the command line prints of the quality of an explanation, with a service that answers in process."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from google.protobuf.struct_pb2 import Struct
from typer.testing import CliRunner

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from protos.explain.v1 import quality_pb2, types_pb2
from service import cli

HIGHER, LOWER = quality_pb2.METRIC_DIRECTION_HIGHER, quality_pb2.METRIC_DIRECTION_LOWER


class Answers(api_grpc.ExplanationServiceServicer):
    """Keeps what it is asked, and answers what a test wants."""

    def __init__(self) -> None:
        self.request = api.ExplainRequest()
        self.figures: list[quality_pb2.QualityFigure] = []

    def Explain(self, request: api.ExplainRequest, context: object) -> api.ExplainResponse:  # noqa: N802
        self.request = request
        response = api.ExplainResponse(predictions=[{"index": 3, "label": "crane", "probability": 0.75}])
        response.explanations.add(target={"index": 3, "label": "crane"}, quality=self.figures)
        response.warnings.add(code=types_pb2.WARNING_CODE_METHODS_DISAGREE, message="They disagree.", target_index=0)
        response.warnings.add(code=types_pb2.WARNING_CODE_LOW_CONFIDENCE, message="Unsure.")
        return response

    def ListMetrics(self, request: api.ListMetricsRequest, context: object) -> api.ListMetricsResponse:  # noqa: N802
        steps = types_pb2.ParameterInfo(name="steps", description="How many.", default_value="224")
        threshold = types_pb2.ParameterInfo(name="threshold", description="Above which.")
        return api.ListMetricsResponse(
            metrics=[
                types_pb2.MetricInfo(name="insertion", unit="probability", direction=HIGHER, parameters=[steps]),
                types_pb2.MetricInfo(name="win_percentage", unit="%", direction=HIGHER, compares=True),
                types_pb2.MetricInfo(name="saliency_metric", direction=LOWER, parameters=[threshold]),
            ]
        )


@pytest.fixture
def service() -> Iterator[SimpleNamespace]:
    """Such a service on a free loopback port."""
    server, answers = grpc.server(ThreadPoolExecutor(1)), Answers()
    api_grpc.add_ExplanationServiceServicer_to_server(answers, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield SimpleNamespace(address=f"127.0.0.1:{port}", answers=answers)
    server.stop(None).wait()


def whylight(service: SimpleNamespace, *words: object) -> SimpleNamespace:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, [*map(str, words), "--address", service.address])
    return SimpleNamespace(code=done.exit_code, out=done.stdout, err=done.stderr)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file; nobody decodes it here."""
    path = tmp_path / "image.png"
    path.write_bytes(b"any bytes")
    return path


def row(text: str, name: str) -> list[str]:
    """The cells of the line of a table that has a cell of that text."""
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines()]
    return next(line for line in lines if name in line)


def test_figures_are_printed(service: SimpleNamespace, image: Path) -> None:
    """Value with unit, which way is better, and every parameter; what is not defined says so."""
    parameters = Struct()
    parameters.update({"steps": 28, "baseline": "blur", "rescale": True, "threshold": None})
    service.answers.figures = [
        quality_pb2.QualityFigure(metric="average_drop", unit="%", direction=LOWER, value=12.3456),
        quality_pb2.QualityFigure(
            metric="insertion", unit="probability", direction=HIGHER, value=0.5, parameters=parameters
        ),
        quality_pb2.QualityFigure(metric="border_mass", unit="share", direction=LOWER),
        quality_pb2.QualityFigure(metric="max_sensitivity", unit="number", direction=LOWER, value=0.0),
    ]
    done = whylight(
        service, "explain", image, "--model", "m", "--quality", "average_drop", "--quality", "insertion:steps=28",
        "--compare-with", "grad_cam:layer=stem",
    )  # fmt: skip
    assert done.code == 0, done.err
    asked = service.answers.request.quality
    assert [metric.name for metric in asked.metrics] == ["average_drop", "insertion"]
    assert asked.metrics[1].parameters["steps"] == 28
    assert asked.compare_with.grad_cam.layer == "stem"
    assert row(done.out, "average_drop") == ["crane", "average_drop", "12.35 %", "lower", ""]
    assert row(done.out, "insertion") == [
        "crane", "insertion", "0.5 probability", "higher", "baseline=blur, rescale=true, steps=28, threshold=default",
    ]  # fmt: skip
    assert row(done.out, "border_mass")[2] == "not defined"
    assert row(done.out, "max_sensitivity")[2] == "0"
    assert done.err.splitlines()[-2:] == ["METHODS_DISAGREE (class 0): They disagree.", "LOW_CONFIDENCE: Unsure."]


def test_no_table_unasked(service: SimpleNamespace, image: Path) -> None:
    """Without --quality the output is as it was, and nothing is asked for."""
    done = whylight(service, "explain", image, "--model", "m")
    assert done.code == 0, done.err
    assert "parameters" not in done.out
    assert not service.answers.request.HasField("quality")


def test_a_mistake_ends_before_the_call(service: SimpleNamespace, image: Path) -> None:
    """With 1 and a sentence."""
    done = whylight(service, "explain", image, "--model", "m", "--quality", "insertion:steps")
    assert (done.code, done.err.strip()) == (1, "no value in 'insertion:steps': write insertion:steps=...")
    assert not service.answers.request.model


def test_metrics_are_listed(service: SimpleNamespace) -> None:
    """What can be asked for, with parameters, and which ones compare."""
    done = whylight(service, "metrics")
    assert done.code == 0, done.err
    assert row(done.out, "insertion")[3:5] == ["higher", "steps: How many. Default: 224."]
    assert row(done.out, "win_percentage")[4] == "needs --compare-with"
    assert row(done.out, "saliency_metric")[3:5] == ["lower", "threshold: Above which."]
