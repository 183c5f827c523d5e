"""Shows that a model works: it is loaded as a worker loads it, and explains one image."""

import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from explainers import METHODS, ExplainerError, LayerInfo, Method, Network, NotApplicableError, TopK
from handlers.describe import supported_methods
from handlers.loading import LoadedModel, LoadError, load_model
from handlers.preprocess import geometry, to_input
from handlers.sanity import clouds
from onboarding.errors import OnboardingError

# The first that works is tried: the second needs neither a gradient nor a layer.
TRIED = ("grad_cam", "occlusion")


@dataclass(frozen=True)
class Checked:
    """What a model showed.

    Attributes:
        class_count: number of classes.
        layer: that is explained by default; None: there is no spatial map.
        cam: whether it ends in global average pooling and one linear layer, so that CAM and Grad-CAM are the same.
        methods: names of the methods that work.
        method: title of the one that was tried.
        predicted: the most probable class of the image.
        degenerate: its map is constant.
        seconds: of the prediction and the map of one image, once warm.
    """

    class_count: int
    layer: LayerInfo | None
    cam: bool
    methods: tuple[str, ...]
    method: str
    predicted: str
    degenerate: bool
    seconds: tuple[float, float]


def check_archive(archive: Path, folder: Path, image: Path | None) -> Checked:
    """Load an archive into this process, on the CPU, and explain an image.

    Args:
        archive: to check.
        folder: an empty one, to unpack it into.
        image: to explain; None: noise.

    Raises:
        OnboardingError: it is refused by a worker, or does not explain the image.
    """
    with zipfile.ZipFile(archive) as file:
        file.extractall(folder)
    try:
        loaded = load_model(folder, torch.device("cpu"))
        return _check(loaded, clouds(loaded.network)[:1] if image is None else _read(image, loaded))
    except LoadError as error:
        raise OnboardingError(str(error)) from None
    except ExplainerError as error:
        raise OnboardingError(f"{loaded.document.name}: {error}") from None


def _check(loaded: LoadedModel, images: Tensor) -> Checked:
    network = loaded.network
    method = _method(network)
    method.explain(network, images, [TopK()])  # the first pass is slower
    started = time.perf_counter()
    logits = network.predict(images)
    predicted = time.perf_counter()
    result = method.explain(network, images, [TopK()])[0]
    explained = time.perf_counter()
    if not bool(logits.isfinite().all()):
        raise OnboardingError(f"{loaded.document.name}: a score is not finite")
    return Checked(
        class_count=network.class_count,
        layer=_layer(network),
        cam=network.linear_head is not None,
        methods=supported_methods(network),
        method=method.title,
        predicted=loaded.document.labels[result.explanations[0].target],
        degenerate=result.explanations[0].degenerate,
        seconds=(predicted - started, explained - predicted),
    )


def _method(network: Network) -> Method:
    for name in TRIED[:-1]:
        try:
            return METHODS[name]().resolve(network)
        except NotApplicableError:
            continue
    return METHODS[TRIED[-1]]().resolve(network)


def _layer(network: Network) -> LayerInfo | None:
    try:
        return network.target_layer
    except NotApplicableError:
        return None


def _read(path: Path, loaded: LoadedModel) -> Tensor:
    try:
        image = Image.open(path).convert("RGB")
    except (OSError, UnidentifiedImageError):
        raise OnboardingError(f"{path.name} is no image that can be read") from None
    preprocessing = loaded.document.preprocessing
    return to_input(image, geometry((image.height, image.width), preprocessing), preprocessing)[None]
