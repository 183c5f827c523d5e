"""What torchvision and timm know of their networks: preprocessing, names of the classes, weights to download."""

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from handlers.torchvision_shim import ensure_operators
from model_store.schema import Architecture
from onboarding.errors import DownloadError, OnboardingError, PreprocessingError

# What torchvision's constructors change by themselves when they download weights: they must be told of it afterwards.
WITH_PRETRAINED: dict[str, dict[str, Any]] = {
    "inception_v3": {"transform_input": True, "init_weights": False},
    "googlenet": {"transform_input": True, "init_weights": False, "aux_logits": False},
}


@dataclass(frozen=True)
class Known:
    """What a library says of one of its networks.

    Attributes:
        preprocessing: keys of the manifest.
        labels: names of the classes; empty where it doesn't know them.
        origin: where the preprocessing comes from, for people.
        state: the downloaded weights, or None.
        arguments: of the constructor, that go with those weights.
    """

    preprocessing: dict[str, Any]
    labels: tuple[str, ...]
    origin: str
    state: dict[str, Tensor] | None
    arguments: dict[str, Any]


def look_up(source: Architecture, arguments: dict[str, Any], weights: Path | None) -> Known:
    """Ask the library; without a file of weights, have it download its own.

    Raises:
        OnboardingError: the library is not installed or has no such network.
        DownloadError: the download failed.
        PreprocessingError: the preprocessing is not one that a manifest can say.
    """
    if weights is not None and not weights.is_file():
        raise OnboardingError(f"there is no file {weights.name}")
    try:
        ensure_operators()
        return (_timm if source.kind == "timm" else _torchvision)(source.name, arguments, weights)
    except ImportError as error:
        raise OnboardingError(f"{error.name} is not installed: pip install --no-deps torchvision timm") from None


def _timm(name: str, arguments: dict[str, Any], weights: Path | None) -> Known:
    import timm
    from timm.data.config import resolve_data_config
    from timm.data.imagenet_info import ImageNetInfo

    try:
        model = timm.create_model(name, pretrained=False, **arguments)
    except Exception as error:
        raise OnboardingError(f"timm cannot build {name}: {error}") from None
    state = None
    if weights is None:
        state = _download(name, lambda: timm.create_model(name, pretrained=True, **arguments))
    config = resolve_data_config(dict(arguments), model=model)  # type: ignore[no-untyped-call]
    classes = model.num_classes
    labels = tuple(ImageNetInfo().label_descriptions()) if classes == 1000 else ()
    return Known(_from_timm(config), labels, f"timm's pretrained_cfg of {name}", state, arguments)


def _from_timm(config: dict[str, Any]) -> dict[str, Any]:
    """timm's data config as keys of the manifest."""
    _, height, width = config["input_size"]
    share, mode = config["crop_pct"], config["crop_mode"]
    if config["interpolation"] not in ("bilinear", "bicubic"):
        raise PreprocessingError(f"the resize is {config['interpolation']}: give --interpolation bilinear or bicubic")
    found = {
        "size": [height, width],
        "interpolation": config["interpolation"],
        "mean": list(config["mean"]),
        "std": list(config["std"]),
    }
    if mode == "squash" and share == 1:
        return {**found, "resize": "squash"}
    if mode == "center" and height == width:
        return {**found, "resize": "crop", "short_side": math.floor(height / share)}
    raise PreprocessingError(f"crop mode {mode} at {height} x {width} with share {share:g}: say it by --resize")


def _torchvision(name: str, arguments: dict[str, Any], weights: Path | None) -> Known:
    import torchvision

    try:
        offered = list(torchvision.models.get_model_weights(name))
    except ValueError:
        raise OnboardingError(f"torchvision has no network {name}") from None
    state = None
    chosen = _same_file(offered, weights) if weights is not None else offered[-1]
    if weights is None:
        chosen = torchvision.models.get_model_weights(name).DEFAULT
        state = _download(name, lambda: torchvision.models.get_model(name, weights=chosen, **arguments))
        arguments = {**WITH_PRETRAINED.get(name, {}), **arguments}
    transform = chosen.transforms()
    preprocessing = {
        "size": [transform.crop_size[0]] * 2,
        "resize": "crop",
        "short_side": transform.resize_size[0],
        "interpolation": transform.interpolation.value,
        "mean": list(transform.mean),
        "std": list(transform.std),
    }
    labels = tuple(chosen.meta["categories"])
    if arguments.get("num_classes", len(labels)) != len(labels):
        labels = ()
    return Known(preprocessing, labels, f"torchvision's {chosen}", state, arguments)


def _same_file(offered: list[Any], weights: Path) -> Any:
    """Which of torchvision's weights a file holds: their names carry the head of the digest. Else the default ones."""
    with weights.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    same = [each for each in offered if each.url.rpartition("-")[2].partition(".")[0] == digest[:8]]
    return same[0] if same else type(offered[0]).DEFAULT


def _download(name: str, build: Any) -> dict[str, Tensor]:
    """The weights of what the library builds and fills by itself."""
    try:
        state = build().state_dict()
    except Exception as error:  # timm and torchvision raise whatever their ways to download do
        raise DownloadError(
            f"the weights of {name} could not be downloaded ({type(error).__name__}: {error}); without a network, "
            "download them elsewhere and give --weights FILE"
        ) from None
    return {key: value.detach().clone().contiguous() for key, value in state.items()}


def with_overrides(known: Known, given: dict[str, Any]) -> Known:
    """With what the operator says instead of the library."""
    merged = {**known.preprocessing, **given}
    if merged.get("resize") == "squash":
        merged.pop("short_side", None)
    return replace(known, preprocessing=merged)
