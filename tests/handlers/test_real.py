"""The handler with real networks and photographs, where they are."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from handlers.torchserve_handler import TorchServeHandler
from model_store.archive import build_all
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import method_pb2
from protos.worker.v1 import worker_pb2
from tests.real import MODELS, photographs, require_real, write_real_manifest
from tests.tiny import extract

pytestmark = pytest.mark.real


@pytest.mark.parametrize("name", MODELS)
def test_photographs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Out of the archive comes what the network's own code says, and a picture for each photograph."""
    monkeypatch.syspath_prepend(require_real())
    import architectures

    build_all(write_real_manifest(tmp_path), tmp_path)
    folder = extract(tmp_path / f"{name}.mar", tmp_path / name)
    handler = TorchServeHandler()
    handler.initialize(SimpleNamespace(system_properties={"model_dir": str(folder), "gpu_id": None}))
    paths = photographs()[:4]
    requests = [
        worker_pb2.WorkRequest(
            image=worker_pb2.ImageWork(
                image=path.read_bytes(),
                top_k=5,
                method=method_pb2.Method(grad_cam=method_pb2.GradCam()),
                output=api.OutputOptions(overlay_png=True),
            )
        ).SerializeToString()
        for path in paths
    ]
    answers = [
        worker_pb2.WorkResponse.FromString(body) for body in handler.handle([{"body": b} for b in requests], None)
    ]
    network = architectures.load(MODELS[name][0])
    for path, answer in zip(paths, answers, strict=True):
        assert answer.status == worker_pb2.WORK_STATUS_OK
        pixels = architectures.pixels(MODELS[name][0], Image.open(path))
        with torch.inference_mode():
            logits = network(architectures.normalise(MODELS[name][0], pixels[None]))[0]
        expected = logits.topk(5)
        assert [score.index for score in answer.image.predictions] == expected.indices.tolist()
        scores = [score.logit for score in answer.image.predictions]
        np.testing.assert_allclose(scores, expected.values.numpy(), rtol=1e-3, atol=1e-3)
        assert answer.image.explanations[0].overlay_png.startswith(b"\x89PNG")
