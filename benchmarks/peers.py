"""The same saliency methods by other libraries, each as a program that answers with one map.

They get normalised inputs and a fixed class, and a module tree of their own. What a library can't explain (captum has
no CAM of tokens) is left out by `programs`.
"""

import contextlib
import io
from typing import Any

import torch
from torch import Tensor

from benchmarks.peer import MASKS_AT_ONCE, Maker, Peer, Setting, own_tree
from benchmarks.peers_captum import CAPTUM
from benchmarks.peers_zennit import ZENNIT
from handlers.torchvision_shim import ensure_operators


def programs(method: str, setting: Setting, parameters: dict[str, Any]) -> dict[str, Peer]:
    """Every library's version of a method, by the name of the library."""
    ensure_operators()
    found: dict[str, Peer] = {}
    tables = {"grad-cam": _GRAD_CAM, "captum": CAPTUM, "torchcam": _TORCHCAM, "zennit": ZENNIT}
    for library, makers in tables.items():
        if method in makers:
            peer = makers[method](setting, parameters)
            if peer is not None:
                found[library] = peer
    return found


def _grad_cam(kind: str) -> Maker:
    def make(setting: Setting, _parameters: dict[str, Any]) -> Peer:
        import pytorch_grad_cam as package
        from pytorch_grad_cam.ablation_cam import replace_layer_recursive
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
            try:
                with contextlib.redirect_stderr(io.StringIO()):  # its progress bars
                    return torch.from_numpy(cam(setting.inputs, target))[0]
            finally:
                if kind == "AblationCAM":  # puts a module of its own into the network, and forgets it when interrupted
                    replace_layer_recursive(model, cam.ablation_layer, layers[0])

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
