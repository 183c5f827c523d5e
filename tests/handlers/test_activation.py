"""Models whose classes are there or not, each by itself: from the manifest to the answer."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from explainers import Activation
from handlers.jobs import prepare
from handlers.loading import LoadedModel, LoadError, load_model
from handlers.settings import Limits
from handlers.worker import Worker
from protos.explain.v1 import method_pb2, quality_pb2, types_pb2
from protos.worker.v1.worker_pb2 import DescribeWork, ImageResult, ImageWork, WorkRequest, WorkResponse
from tests.handlers.pictures import encode, photograph
from tests.tiny import sha256, unpack, write_tiny

PHOTO = encode(photograph())
SIGMOID = 'activation = "sigmoid"'
FIVE = 'labels = ["ant", "bee", "cat", "dog", "eel"]'


def model(folder: Path, *lines: str) -> LoadedModel:
    """The tiny model with further lines in its table."""
    manifest = write_tiny(folder)
    manifest.write_text(manifest.read_text().replace(FIVE, "\n".join((FIVE, *lines))))
    return load_model(unpack(manifest, folder), torch.device("cpu"))


def binary(folder: Path, *lines: str) -> LoadedModel:
    """The tiny model with the second of its classes alone."""
    manifest, weights = write_tiny(folder), folder / "tiny.safetensors"
    state = load_file(weights)
    save_file({name: row[1:2].clone() if name.startswith("head") else row for name, row in state.items()}, weights)
    text = "\n".join(
        f'sha256 = "{sha256(weights)}"\narguments = {{ classes = 1 }}' if line.startswith("sha256") else line
        for line in manifest.read_text().splitlines()
    )
    manifest.write_text(text.replace(FIVE, "\n".join(('labels = ["malignant"]', *lines))))
    return load_model(unpack(manifest, folder), torch.device("cpu"))


def ask(loaded: LoadedModel, **fields: object) -> ImageResult:
    """The answer to one image."""
    request = WorkRequest(image=ImageWork(image=PHOTO, top_k=5, **fields))  # type: ignore[arg-type]
    (body,) = Worker(loaded, Limits()).answer([request.SerializeToString()])
    return WorkResponse.FromString(body).image


def logits(loaded: LoadedModel) -> torch.Tensor:
    pixels = prepare(WorkRequest(image=ImageWork(image=PHOTO)), loaded, Limits()).pixels
    return loaded.network.predict(pixels[None])[0].double()


def test_multi_label(tmp_path: Path) -> None:
    """Scores are sigmoids, in the order of the logits, in predictions and explanations; the description says so."""
    loaded = model(tmp_path, SIGMOID)
    grad_cam = method_pb2.Method(grad_cam=method_pb2.GradCam())
    result = ask(loaded, method=grad_cam, target_top_k=2)
    expected = logits(loaded).sigmoid().sort(descending=True)
    assert [score.index for score in result.predictions] == expected.indices.tolist()
    assert [score.probability for score in result.predictions] == pytest.approx(expected.values.tolist(), abs=1e-6)
    assert [item.target for item in result.explanations] == list(result.predictions[:2])
    request = WorkRequest(describe=DescribeWork())
    (body,) = Worker(loaded, Limits()).answer([request.SerializeToString()])
    assert WorkResponse.FromString(body).description.model.activation == types_pb2.ACTIVATION_SIGMOID


def test_a_binary_head_has_one_class(tmp_path: Path) -> None:
    """Its probability is the sigmoid of the only logit, and so are those behind the figures of quality."""
    loaded = binary(tmp_path, SIGMOID)
    result = ask(
        loaded,
        method=method_pb2.Method(fake_cam=method_pb2.FakeCam()),  # a mask of ones but for one pixel
        quality=quality_pb2.QualityOptions(metrics=[quality_pb2.MetricChoice(name="average_drop")]),
    )
    (score,) = result.predictions
    assert score.label == "malignant"
    assert score.probability == pytest.approx(float(logits(loaded).sigmoid()), abs=1e-6)
    assert result.explanations[0].target == score
    assert result.explanations[0].quality[0].value < 5


def test_one_logit_needs_a_sigmoid(tmp_path: Path) -> None:
    """Its softmax would be 1 for every image."""
    with pytest.raises(LoadError, match="the softmax of one logit is always 1: set activation = 'sigmoid'"):
        binary(tmp_path)


def test_softmax_is_the_default(tmp_path: Path) -> None:
    """As before there was a choice."""
    assert model(tmp_path).network.activation is Activation.SOFTMAX
