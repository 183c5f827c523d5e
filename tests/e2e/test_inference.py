"""The Open Inference Protocol with a real worker: the documentation's examples, and the same map as explain.v1's."""

import re
import shutil
import struct
import subprocess
from pathlib import Path

import grpc
import pytest

from model_store.digits.samples import SAMPLES_FOLDER
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from protos.inference import inference_service_pb2 as oip
from protos.inference import inference_service_pb2_grpc as oip_grpc
from service.converters.saliency import map_values
from service.launch import Launched
from tests.e2e.test_service import IMAGE, MODELS, SAMPLE, explain
from tests.service.inference.stock.environment import PYTHON, SCRIPTS, needs_stock_clients

pytestmark = pytest.mark.e2e
PAGE = Path(__file__).resolve().parents[2] / "docs" / "open_inference_protocol.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


def infer(channel: grpc.Channel, **tensor: object) -> oip.ModelInferResponse:
    stub = oip_grpc.GRPCInferenceServiceStub(channel)  # type: ignore[no-untyped-call]
    raw = tensor.pop("raw")
    request = oip.ModelInferRequest(
        model_name=MODELS[0],
        inputs=[{"name": "image", **tensor}],
        raw_input_contents=[raw],
        outputs=[{"name": "saliency"}],
    )
    return stub.ModelInfer(request)  # type: ignore[no-any-return]


def test_the_map_is_explain_v1s(channel: grpc.Channel, stub: api_grpc.ExplanationServiceStub) -> None:
    """To the bit: it comes from the same place."""
    expected = stub.Explain(explain()).explanations[0].map
    answer = infer(channel, datatype="BYTES", shape=[1], raw=struct.pack("<I", len(IMAGE)) + IMAGE)
    assert list(answer.outputs[0].shape) == [1, 1, *expected.values.shape]
    assert answer.raw_output_contents[0] == struct.pack(f"<{len(map_values(expected))}f", *map_values(expected))


def test_pixels_are_an_image(channel: grpc.Channel) -> None:
    """The worker takes what the service makes of them."""
    answer = infer(channel, datatype="UINT8", shape=[64, 48, 3], raw=bytes(range(256)) * 36)
    assert answer.outputs[0].shape[:2] == [1, 1]


def test_several_images_are_each_ones_answer(channel: grpc.Channel) -> None:
    """The maps of a batch are those of the images alone, but for rounding."""
    first, second = bytes(range(256)) * 36, bytes(reversed(range(256))) * 36
    alone = [infer(channel, datatype="UINT8", shape=[64, 48, 3], raw=raw) for raw in (first, second)]
    both = infer(channel, datatype="UINT8", shape=[2, 64, 48, 3], raw=first + second)
    _, _, height, width = alone[0].outputs[0].shape
    assert list(both.outputs[0].shape) == [2, 1, height, width]
    expected = b"".join(answer.raw_output_contents[0] for answer in alone)
    values = [struct.unpack(f"<{2 * height * width}f", raw) for raw in (both.raw_output_contents[0], expected)]
    assert values[0] == pytest.approx(values[1], abs=1e-4)


@needs_stock_clients
@pytest.mark.parametrize("number", range(len(EXAMPLES)), ids=["tritonclient", "kserve", "several"])
def test_the_documentations_examples_run_as_they_stand(number: int, service: Launched, tmp_path: Path) -> None:
    """Each prints something, and nothing went wrong."""
    shutil.copy(SAMPLES_FOLDER / SAMPLE["image"], tmp_path / "photo.jpg")
    (tmp_path / "call.py").write_text(EXAMPLES[number].replace("127.0.0.1:50051", service.address))
    done = subprocess.run([PYTHON, "call.py"], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@needs_stock_clients
def test_a_stock_client_works_with_a_real_worker(service: Launched, tmp_path: Path) -> None:
    """What the unit tests have it do with a fake one; kserve's is in the examples."""
    image = tmp_path / "photo.jpg"
    image.write_bytes(IMAGE)
    program = [PYTHON, SCRIPTS[0], service.address, MODELS[0], image, "1"]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
