"""The same saliency methods by other libraries, each as a program that answers with one map.

They get normalised inputs and a fixed class, and a module tree of their own. What a library can't explain (captum has
no CAM of tokens) is left out by `programs`.
"""

import contextlib
import copy
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from handlers.torchvision_shim import ensure_operators

ToGrid = Callable[[Tensor], Tensor]
MASKS_AT_ONCE = 32


@dataclass(frozen=True)
class Setting:
    """One image and what to explain of it.

    Attributes:
        model: takes normalised images.
        pixels: shape (1, 3, height, width), in [0, 1].
        mean: shape (1, 3, 1, 1).
        std: likewise.
        layer: module path of the layer to explain.
        channels: how many feature maps it has.
        target: the class.
        to_grid: lays out tokens; None for feature maps.
        linear: module path of the classifier behind global average pooling; None where there is none.
    """

    model: nn.Module
    pixels: Tensor
    mean: Tensor
    std: Tensor
    layer: str
    channels: int
    target: int
    to_grid: ToGrid | None
    linear: str | None

    @property
    def inputs(self) -> Tensor:
        """The image as the model takes it."""
        return (self.pixels - self.mean) / self.std


@dataclass(frozen=True)
class Peer:
    """A method of another library.

    Attributes:
        run: answers with a map of shape (h, w) or (height, width).
        passes: images that it sends through the whole network; None where a fraction of them can't be told from
            all.
        model: what it sends them through.
    """

    run: Callable[[], Tensor]
    passes: int | None
    model: nn.Module


def programs(method: str, setting: Setting, parameters: dict[str, Any]) -> dict[str, Peer]:
    """Every library's version of a method, by the name of the library."""
    ensure_operators()
    found: dict[str, Peer] = {}
    for library, makers in (("grad-cam", _GRAD_CAM), ("captum", _CAPTUM), ("torchcam", _TORCHCAM)):
        if method in makers:
            peer = makers[method](setting, parameters)
            if peer is not None:
                found[library] = peer
    return found


def own_tree(model: nn.Module) -> nn.Module:
    """New modules around the same weights: hooks that a library leaves behind shall not slow the others."""
    shared = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


def of_pixels(setting: Setting, model: nn.Module, *, probabilities: bool = False) -> Callable[[Tensor], Tensor]:
    """A model behind its normalisation, for libraries that know no pixels in [0, 1].

    No module: torch's counter of operations can't follow a leaf of the graph into one.
    """

    def scores(pixels: Tensor) -> Tensor:
        logits: Tensor = model((pixels - setting.mean) / setting.std)
        return logits.softmax(dim=1) if probabilities else logits

    return scores


Maker = Callable[[Setting, dict[str, Any]], Peer | None]


def _grad_cam(kind: str) -> Maker:
    def make(setting: Setting, _parameters: dict[str, Any]) -> Peer:
        import pytorch_grad_cam as package
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

        model = own_tree(setting.model)
        options: dict[str, Any] = {}
        if kind == "AblationCAM" and setting.to_grid is not None:
            from pytorch_grad_cam.ablation_layer import AblationLayerVit

            options["ablation_layer"] = AblationLayerVit()
        layers = [model.get_submodule(setting.layer)]
        cam = getattr(package, kind)(model=model, target_layers=layers, reshape_transform=setting.to_grid, **options)
        cam.batch_size = MASKS_AT_ONCE
        target = [ClassifierOutputTarget(setting.target)]

        def run() -> Tensor:
            with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
                return torch.from_numpy(cam(setting.inputs, target))[0]

        passes = {"ScoreCAM": 1 + setting.channels, "AblationCAM": 2 + setting.channels}.get(kind)
        return Peer(run, passes, model)

    return make


def _torchcam(kind: str) -> Maker:
    def make(setting: Setting, parameters: dict[str, Any]) -> Peer | None:
        from torchcam import methods

        options: dict[str, Any] = {}
        if kind == "CAM":
            if setting.linear is None:
                return None
            options["fc_layer"] = setting.linear
        elif kind in ("SSCAM", "SmoothGradCAMpp"):
            options["num_samples"] = parameters["samples"]
        if setting.to_grid is not None:
            options["reshape_transform"] = setting.to_grid
        model = own_tree(setting.model)
        extractor: Any = getattr(methods, kind)(model, setting.layer, **options)

        def run() -> Tensor:
            found: Tensor = extractor(setting.target, model(setting.inputs))[0]
            return found[0] if found.dim() == 3 else found

        passes = {"ScoreCAM": 1 + setting.channels, "SSCAM": 1 + setting.channels * parameters.get("samples", 0)}
        return Peer(run, passes.get(kind), model)

    return make


def _captum_grad_cam(setting: Setting, _parameters: dict[str, Any]) -> Peer | None:
    from captum.attr import LayerGradCam

    if setting.to_grid is not None:
        return None
    model = own_tree(setting.model)
    method = LayerGradCam(model, model.get_submodule(setting.layer))
    return Peer(
        lambda: method.attribute(setting.inputs, setting.target, relu_attributions=True)[0, 0].detach(), None, model
    )


def _captum_pixels(
    attribute: Callable[[Any, nn.Module, Setting, dict[str, Any]], Tensor],
    passes: Callable[[Setting, dict[str, Any]], int] | None = None,
) -> Maker:
    """A method of captum on pixels; `attribute` answers with one map, shape (height, width)."""

    def make(setting: Setting, parameters: dict[str, Any]) -> Peer:
        import captum.attr

        model = own_tree(setting.model)
        total = None if passes is None else passes(setting, parameters)
        return Peer(lambda: attribute(captum.attr, model, setting, parameters).detach(), total, model)

    return make


def _pixels(setting: Setting) -> Tensor:
    return setting.pixels.clone().requires_grad_()


def _gradient(attr: Any, model: nn.Module, setting: Setting, _parameters: dict[str, Any]) -> Tensor:
    found: Tensor = attr.Saliency(of_pixels(setting, model)).attribute(_pixels(setting), setting.target)
    return found[0].amax(dim=0)


def _smooth_grad(attr: Any, model: nn.Module, setting: Setting, parameters: dict[str, Any]) -> Tensor:
    method = attr.NoiseTunnel(attr.Saliency(of_pixels(setting, model)))
    spread = (setting.pixels.max() - setting.pixels.min()).item()
    options = {"nt_samples": parameters["samples"], "stdevs": parameters["noise"] * spread, "nt_samples_batch_size": 8}
    found: Tensor = method.attribute(_pixels(setting), nt_type="smoothgrad", target=setting.target, **options)
    return found[0].amax(dim=0)


def _integrated_gradients(attr: Any, model: nn.Module, setting: Setting, parameters: dict[str, Any]) -> Tensor:
    method = attr.IntegratedGradients(of_pixels(setting, model))
    options = {"n_steps": parameters["steps"], "method": "riemann_middle", "internal_batch_size": 8}
    found: Tensor = method.attribute(_pixels(setting), target=setting.target, **options)
    return found[0].sum(dim=0)


def _occlusion(attr: Any, model: nn.Module, setting: Setting, parameters: dict[str, Any]) -> Tensor:
    window, stride = parameters["window"], parameters["stride"]
    shapes = {"sliding_window_shapes": (3, window, window), "strides": (3, stride, stride)}
    method = attr.Occlusion(of_pixels(setting, model, probabilities=True))
    options = {"baselines": parameters["grey"], "perturbations_per_eval": MASKS_AT_ONCE, **shapes}
    found: Tensor = method.attribute(setting.pixels, target=setting.target, **options)
    return found[0, 0]


def _squares(setting: Setting, parameters: dict[str, Any]) -> int:
    """One pass for the image, and one for each square; the last of a row may stand over the edge."""
    window, stride = parameters["window"], parameters["stride"]
    rows, columns = (1 + -(-(side - window) // stride) for side in setting.pixels.shape[2:])
    return int(1 + rows * columns)


_GRAD_CAM: dict[str, Maker] = {
    "grad_cam": _grad_cam("GradCAM"),
    "grad_cam_plus_plus": _grad_cam("GradCAMPlusPlus"),
    "xgrad_cam": _grad_cam("XGradCAM"),
    "layer_cam": _grad_cam("LayerCAM"),
    "score_cam": _grad_cam("ScoreCAM"),
    "ablation_cam": _grad_cam("AblationCAM"),
}
_TORCHCAM: dict[str, Maker] = {
    "cam": _torchcam("CAM"),
    "grad_cam": _torchcam("GradCAM"),
    "grad_cam_plus_plus": _torchcam("GradCAMpp"),
    "smooth_grad_cam_plus_plus": _torchcam("SmoothGradCAMpp"),
    "xgrad_cam": _torchcam("XGradCAM"),
    "layer_cam": _torchcam("LayerCAM"),
    "score_cam": _torchcam("ScoreCAM"),
    "ss_cam": _torchcam("SSCAM"),
}
_CAPTUM: dict[str, Maker] = {
    "grad_cam": _captum_grad_cam,
    "gradient": _captum_pixels(_gradient),
    "smooth_grad": _captum_pixels(_smooth_grad, lambda _setting, parameters: int(parameters["samples"])),
    "integrated_gradients": _captum_pixels(
        _integrated_gradients, lambda _setting, parameters: int(parameters["steps"])
    ),
    "occlusion": _captum_pixels(_occlusion, _squares),
}
