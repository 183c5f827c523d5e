"""captum's methods."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.peer import MASKS_AT_ONCE, Maker, Peer, Setting, of_pixels, own_tree, with_gradient, without_in_place
from explainers.superpixels import Superpixels


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


def _guided(kind: str) -> Maker:
    def make(setting: Setting, _parameters: dict[str, Any]) -> Peer | None:
        import captum.attr

        model = without_in_place(own_tree(setting.model))
        if setting.to_grid is not None or not any(isinstance(module, nn.ReLU) for module in model.modules()):
            return None
        inputs = with_gradient(setting.inputs)
        if kind == "GuidedBackprop":
            method = captum.attr.GuidedBackprop(model)
            return Peer(lambda: method.attribute(inputs, setting.target)[0].abs().amax(dim=0).detach(), None, model)
        both = captum.attr.GuidedGradCam(model, model.get_submodule(setting.layer))

        def run() -> Tensor:
            found: Tensor = both.attribute(inputs, setting.target, interpolate_mode="bilinear")
            return found[0].abs().amax(dim=0).detach()

        return Peer(run, None, model)

    return make


def _superpixels(attr: Any, model: nn.Module, setting: Setting, parameters: dict[str, Any], kind: str) -> Tensor:
    picture = Superpixels.of(setting.pixels[0], parameters["segments"], parameters["baseline"])
    (hidden,) = picture.show(torch.zeros(1, picture.count, dtype=torch.bool))
    method = getattr(attr, kind)(of_pixels(setting, model, probabilities=True))
    with torch.inference_mode():
        found: Tensor = method.attribute(
            setting.pixels,
            baselines=hidden[None],
            feature_mask=picture.labels.expand(1, 1, *picture.labels.shape),
            target=setting.target,
            n_samples=parameters["samples"],
            perturbations_per_eval=MASKS_AT_ONCE,
        )
    return found[0, 0]


def _lime(attr: Any, model: nn.Module, setting: Setting, parameters: dict[str, Any]) -> Tensor:
    return _superpixels(attr, model, setting, parameters, "Lime")


def _kernel_shap(attr: Any, model: nn.Module, setting: Setting, parameters: dict[str, Any]) -> Tensor:
    return _superpixels(attr, model, setting, parameters, "KernelShap")


def _samples(_setting: Setting, parameters: dict[str, Any]) -> int:
    return int(parameters["samples"])


CAPTUM: dict[str, Maker] = {
    "grad_cam": _captum_grad_cam,
    "gradient": _captum_pixels(_gradient),
    "smooth_grad": _captum_pixels(_smooth_grad, _samples),
    "integrated_gradients": _captum_pixels(
        _integrated_gradients, lambda _setting, parameters: int(parameters["steps"])
    ),
    "occlusion": _captum_pixels(_occlusion, _squares),
    "guided_backprop": _guided("GuidedBackprop"),
    "guided_grad_cam": _guided("GuidedGradCam"),
    "lime": _captum_pixels(_lime, _samples),
    "kernel_shap": _captum_pixels(_kernel_shap, _samples),
}
