"""An explanation as it is made, through the whole way: order, progress, cancel, and a deadline that comes too early."""

import io
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from PIL import Image

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from protos.explain.v1 import method_pb2, types_pb2
from service.launch import Launched
from tests.e2e.test_service import IMAGE, explain

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
LONG = 1000  # steps: several seconds
LABELS = 'method="opti_cam",model="digits-cnn"'


def opti_cam(steps: int, **fields: object) -> api.ExplainRequest:
    """Computed each time: an answer that is kept takes no steps."""
    return explain(method=method_pb2.Method(opti_cam=method_pb2.OptiCam(steps=steps)), no_cache=True, **fields)


def metric(service: Launched, name: str) -> float:
    """A figure of Opti-CAM on the model; 0 where there is none yet."""
    text = urllib.request.urlopen(service.metrics, timeout=10).read().decode()  # noqa: S310 - our own address
    found = re.search(rf"^{re.escape(f'{name}{{{LABELS}}}')} (.+)$", text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def kinds(events: list[api.StreamExplainResponse]) -> Iterator[str]:
    return (str(event.WhichOneof("event")) for event in events)


def test_a_stream_tells_in_order_and_ends_with_what_explain_answers(stub: api_grpc.ExplanationServiceStub) -> None:
    """Prediction, fast map, steps that count up with an objective that never falls, and the same map as Explain's."""
    unary = stub.Explain(opti_cam(60), timeout=120)
    interval = {"nanos": 50_000_000}
    request = api.StreamExplainRequest(request=opti_cam(60), progress_maps=True, progress_interval=interval)
    events = list(stub.StreamExplain(request, timeout=120))
    order = list(kinds(events))
    assert order[:2] == ["prediction", "preview"]
    assert order[-1] == "result"
    assert set(order[2:-1]) == {"progress"}
    steps = [event.progress for event in events[2:-1]]
    numbers = [each.step for each in steps]
    assert numbers == sorted(set(numbers))
    assert numbers[-1] == 60
    assert {each.steps for each in steps} == {60}
    objectives = [each.objective for each in steps]
    assert objectives == sorted(objectives)
    result = events[-1].result
    assert result.predictions == unary.predictions == events[0].prediction.predictions
    assert result.explanations == unary.explanations
    preview = events[1].preview
    assert preview.provenance.method.WhichOneof("method") == "grad_cam"
    assert [item.target.index for item in preview.explanations] == [result.explanations[0].target.index]
    shown = [each for step in steps for each in step.maps]
    assert shown
    assert {each.target_index for each in shown} == {result.explanations[0].target.index}


def test_a_cancel_stops_the_worker_at_once(service: Launched, stub: api_grpc.ExplanationServiceStub) -> None:
    """Its seconds after the cancel are exported, and the next request is answered promptly."""
    count, total = (f"whylight_cancelled_work_seconds_{part}" for part in ("count", "sum"))
    before = metric(service, count), metric(service, total)
    call = stub.StreamExplain(api.StreamExplainRequest(request=opti_cam(LONG)), timeout=120)
    for event in call:
        if event.HasField("progress"):
            break
    call.cancel()
    began = time.monotonic()
    assert stub.Explain(explain(), timeout=60).explanations
    answered = time.monotonic() - began
    while metric(service, count) == before[0]:
        assert time.monotonic() - began < 30
        time.sleep(0.02)
    spent = metric(service, total) - before[1]
    print(f"worker seconds after the cancel: {spent:.3f}; next answer after {answered:.3f} s")  # noqa: T201 - with -s
    assert event.progress.step < LONG
    assert spent < 2
    assert answered < 2


def test_a_deadline_gives_the_best_map_so_far_where_that_is_allowed(stub: api_grpc.ExplanationServiceStub) -> None:
    """In time, and marked; where it isn't, DEADLINE_EXCEEDED."""
    response = stub.Explain(opti_cam(LONG, allow_partial=True), timeout=2)
    (item,) = response.explanations
    assert item.partial.steps == LONG
    assert 1 <= item.partial.step < LONG
    assert not item.map.degenerate
    assert types_pb2.WARNING_CODE_PARTIAL in [warning.code for warning in response.warnings]
    with pytest.raises(grpc.RpcError) as caught:
        stub.Explain(opti_cam(LONG), timeout=1)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_the_example_of_the_documentation_runs_as_it_stands(service: Launched, tmp_path: Path) -> None:
    """Pasted into a file, it prints the class, the steps, and that the map is complete."""
    code = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "streaming.md").read_text(), re.DOTALL)
    assert code is not None
    picture = Image.open(io.BytesIO(IMAGE)).convert("RGB")
    picture.putpixel((0, 0), (1, 2, 3))  # nobody has asked for this one before: a kept answer has no steps
    picture.save(tmp_path / "photo.jpg", format="PNG")
    (tmp_path / "call.py").write_text(code.group(1).replace("127.0.0.1:50051", service.address))
    command = [sys.executable, "call.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any(re.fullmatch(r"\d+ of 100: -?\d+\.\d+", line) for line in lines[1:-1])
    assert lines[-1] == "complete"
