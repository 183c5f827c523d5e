"""Quality figures through the running service, against the same computed in this process."""

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest
import torch
from google.protobuf.struct_pb2 import Struct

from explainers import METHODS as SALIENCY
from explainers import Classes
from handlers.jobs import prepare
from handlers.loading import load_model
from handlers.settings import Limits
from model_store.archive import build_archive
from model_store.digits.samples import SAMPLES_FOLDER
from model_store.manifest import DEFAULT_MANIFEST, load_manifest
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from protos.explain.v1 import quality_pb2, types_pb2
from protos.worker.v1 import worker_pb2
from quality import METRICS, Evidence, explain_by, of_results
from service.client import build_quality
from service.launch import Launched
from tests.e2e.test_service import IMAGE, MODELS, SAMPLE, SAMPLES, classes, explain, whylight
from tests.tiny import extract

pytestmark = pytest.mark.e2e
ASKED = {
    "average_drop": {},
    "average_gain": {},
    "insertion": {"steps": 8},
    "max_sensitivity": {"samples": 2},
    "border_mass": {},
    "rank_correlation": {},
}
SECOND = {"digits-cnn": "layer_cam", "digits-vit": "tibav"}
DISPUTED = next(sample for sample in SAMPLES if sample["image"] == "temple.jpg")


def here(model: str, folder: Path) -> Evidence:
    """What the metrics look at, made in this process from the same archive and image."""
    entry = next(entry for entry in load_manifest(DEFAULT_MANIFEST).models if entry.name == model)
    archive = build_archive(entry, DEFAULT_MANIFEST.parent, folder / "store")
    loaded = load_model(extract(archive, folder / "unpacked"), torch.device("cpu"))
    images = prepare(worker_pb2.WorkRequest(image=worker_pb2.ImageWork(image=IMAGE)), loaded, Limits()).pixels[None]
    first, second = SALIENCY["grad_cam"](), SALIENCY[SECOND[model]]()
    results, others = (
        each.explain(loaded.network, images, [Classes(tuple(SAMPLE["labels"]))]) for each in (first, second)
    )
    other_maps = torch.stack([item.map for item in others[0].explanations])
    return of_results(loaded.network, images, results, explain=explain_by(first), other_maps=other_maps)


@pytest.mark.parametrize("model", MODELS)
def test_figures_are_those_of_the_metrics(stub: api_grpc.ExplanationServiceStub, model: str, tmp_path: Path) -> None:
    """For both digits, in the order asked for, in range, and as computed here."""
    words = [name + "".join(f":{key}={value}" for key, value in given.items()) for name, given in ASKED.items()]
    quality = build_quality(words, SECOND[model])
    response = stub.Explain(explain(model=model, targets=classes(*SAMPLE["labels"]), quality=quality), timeout=60)
    evidence = here(model, tmp_path)
    assert [each.target.index for each in response.explanations] == SAMPLE["labels"]
    for row, explanation in enumerate(response.explanations):
        assert [figure.metric for figure in explanation.quality] == list(ASKED)
        for figure in explanation.quality:
            metric = METRICS[figure.metric](**ASKED[figure.metric])
            expected = float(metric.values(evidence)[row])
            assert metric.range[0] <= figure.value <= metric.range[1]
            assert figure.value == pytest.approx(expected, rel=1e-3, abs=1e-3), figure.metric
            assert dict(figure.parameters.items()).items() >= ASKED[figure.metric].items()
    assert response.timings.quality.ToNanoseconds() > 0


def test_methods_that_disagree_are_warned_about(stub: api_grpc.ExplanationServiceStub) -> None:
    """Grad-CAM and raw attention order the cells of this photograph differently, for both digits."""
    image = (SAMPLES_FOLDER / DISPUTED["image"]).read_bytes()
    quality = build_quality(["rank_correlation"], "raw_attention")
    request = explain(image, "digits-vit", targets=classes(*DISPUTED["labels"]), quality=quality)
    response = stub.Explain(request, timeout=60)
    assert all(explanation.quality[0].value < 0.3 for explanation in response.explanations)
    disagree = types_pb2.WARNING_CODE_METHODS_DISAGREE
    assert [each.target_index for each in response.warnings if each.code == disagree] == DISPUTED["labels"]


def test_every_listed_metric_can_be_asked_for(stub: api_grpc.ExplanationServiceStub) -> None:
    """With its defaults, but for the number of passes; 16 at once."""
    listed = list(stub.ListMetrics(api.ListMetricsRequest()).metrics)
    assert len(listed) > 10
    for start in range(0, len(listed), 16):
        quality = quality_pb2.QualityOptions(compare_with={"layer_cam": {}})
        for info in listed[start : start + 16]:
            parameters, names = Struct(), {parameter.name for parameter in info.parameters}
            parameters.update({name: 4 for name in ("steps", "samples") if name in names})
            quality.metrics.add(name=info.name, parameters=parameters)
        response = stub.Explain(explain(quality=quality), timeout=60)
        for info, figure in zip(listed[start : start + 16], response.explanations[0].quality, strict=True):
            assert figure.metric == info.name
            assert figure.value >= (info.minimum if info.HasField("minimum") else float("-inf"))
            assert figure.value <= (info.maximum if info.HasField("maximum") else float("inf"))


def test_a_metric_ends_at_the_deadline(stub: api_grpc.ExplanationServiceStub) -> None:
    """A client that gave up does not keep the worker busy: the next request is answered at once."""
    long = build_quality(["infidelity:samples=10000"], None)
    with pytest.raises(grpc.RpcError) as caught:
        stub.Explain(explain(quality=long), timeout=1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    began = time.monotonic()
    assert stub.Explain(explain(no_cache=True), timeout=30).explanations
    assert time.monotonic() - began < 10


def test_the_command_line_prints_figures(service: Launched) -> None:
    """`whylight explain --quality` and `whylight metrics`."""
    done = whylight(
        service, "explain", SAMPLES_FOLDER / SAMPLE["image"], "--model", "digits-cnn",
        "--quality", "average_drop", "--quality", "insertion:steps=8", "--compare-with", "layer_cam",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "average_drop" in done.stdout
    assert "baseline=blur" in "".join(done.stdout.split())
    assert "insertion" in whylight(service, "metrics").stdout


def test_the_documentations_python_runs_as_it_stands(service: Launched, tmp_path: Path) -> None:
    """The example of docs/quality.md, pasted into a file, prints a figure for each metric."""
    text = (Path(__file__).resolve().parents[2] / "docs" / "quality.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert code is not None
    shutil.copy(SAMPLES_FOLDER / SAMPLE["image"], tmp_path / "photo.jpg")
    (tmp_path / "call.py").write_text(code.group(1).replace("127.0.0.1:50051", service.address))
    done = subprocess.run(
        [sys.executable, "call.py"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / "client")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("average_drop ") for line in lines)
    assert any(line.startswith("insertion ") for line in lines)
