"""What is asked: a model, a piece of work and photographs, in the words of each way to ask."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from model_store.digits.samples import SAMPLES_FOLDER
from model_store.manifest import DEFAULT_MANIFEST, ModelEntry, load_manifest
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import method_pb2, quality_pb2, types_pb2
from service.commands import ExplainCommand, PredictCommand
from tests import real

DIGITS = "digits-cnn"
PREDICTION, GRAD_CAM, PICTURES = "prediction", "Grad-CAM", "Grad-CAM, pictures"
WORK = (PREDICTION, GRAD_CAM)
TOP_K = 5
Asked: TypeAlias = api.PredictRequest | api.ExplainRequest


@dataclass(frozen=True)
class Case:
    """What one row of a table is about.

    Attributes:
        model: name of a deployed model.
        work: PREDICTION, GRAD_CAM, or PICTURES, which adds both PNGs.
    """

    model: str
    work: str

    def __str__(self) -> str:
        return f"{self.model}, {self.work}"

    def command(self, image: bytes) -> PredictCommand:
        """What the service makes of the request."""
        if self.work == PREDICTION:
            return PredictCommand(self.model, image, TOP_K, no_cache=True)
        drawn = self.work == PICTURES
        return ExplainCommand(
            model=self.model,
            image=image,
            top_k=TOP_K,
            method=method_pb2.Method(grad_cam=method_pb2.GradCam()),
            class_indices=(),
            target_top_k=1,
            output=api.OutputOptions(
                resolution=types_pb2.MAP_RESOLUTION_NATIVE,
                map_png=drawn,
                overlay_png=drawn,
                color_map=api.COLOR_MAP_VIRIDIS,
                overlay_opacity=0.5,
            ),
            quality=quality_pb2.QualityOptions(),
            no_cache=True,
        )

    def request(self, image: bytes) -> Asked:
        """What a client of the service sends."""
        command = self.command(image)
        if not isinstance(command, ExplainCommand):
            return api.PredictRequest(model=self.model, image=image, top_k=TOP_K, no_cache=True)
        return api.ExplainRequest(
            model=self.model, image=image, top_k=TOP_K, method=command.method, output=command.output, no_cache=True
        )


def real_models() -> tuple[str, ...]:
    """The real networks, where they are."""
    return tuple(real.MODELS) if (real.ROOT / "architectures.py").is_file() else ()


def cases() -> list[Case]:
    """Every case: predictions and Grad-CAM on each network, and pictures on one."""
    found = [Case(model, work) for model in (*real_models(), DIGITS) for work in WORK]
    return [*found, Case((*real_models(), DIGITS)[0], PICTURES)]


def photographs() -> list[bytes]:
    """The real photographs where they are, else those of the default models."""
    paths = real.photographs() if real_models() else sorted(SAMPLES_FOLDER.glob("*.jpg"))
    return [path.read_bytes() for path in paths]


def entries(folder: Path, models: Collection[str], changes: Mapping[str, object]) -> list[tuple[ModelEntry, Path]]:
    """Some of the default CNN and the real networks, all served alike, each with the folder of its manifest.

    Args:
        folder: where to write the manifest of the real networks.
        models: names of those to serve.
        changes: fields of `Serving` with other values than the defaults.
    """
    manifests = [DEFAULT_MANIFEST, *([real.write_real_manifest(folder)] if real_models() else [])]
    found = [(entry, path.parent) for path in manifests for entry in load_manifest(path).models]
    serving = found[0][0].serving.model_copy(update=dict(changes))
    return [(entry.model_copy(update={"serving": serving}), parent) for entry, parent in found if entry.name in models]
