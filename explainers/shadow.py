"""A private copy of a network's module tree that shares the storage of its weights.

Everything that an explanation needs on a module (hooks, eval mode, no weight gradients) is put on this copy, so the
caller's own module stays as it was handed over and can go on training, or serve someone else, in the meantime.
"""

import copy
from collections import OrderedDict
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Graph

from explainers.batch_norm import make_exact


def make_shadow(model: nn.Module, device: torch.device) -> nn.Module:
    """Copy a module tree for inference.

    Parameters, buffers and tensors kept as plain attributes become detached tensors that share the storage of the
    originals, or are copied when `device` is another one. So updates in place show in the shadow, and tied weights
    stay tied. Forward hooks of the caller are part of what the network computes and are kept; backward hooks only
    serve whoever trains it and are left out. Batch normalisations get the right gradient (`explainers.batch_norm`).
    """
    memo: dict[int, Any] = {}
    with torch.inference_mode(False), torch.no_grad():
        for module in model.modules():
            for tensor in _own_tensors(module):
                memo.setdefault(id(tensor), _share(tensor, device))
            _share_hooks(module, memo)
        generated = [module for module in model.modules() if isinstance(getattr(module, "graph", None), Graph)]
        clones = [(module, _clone(module, memo)) for module in generated]
        for module, clone in clones:
            clone._modules = copy.deepcopy(module._modules, memo)
        shadow = copy.deepcopy(model, memo)
    make_exact(shadow)
    return _evaluation_mode(shadow)


def replace_module(shadow: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module of a shadow where another one is, with the other's hooks."""
    before = shadow.get_submodule(path)
    for name in vars(before):
        if name.startswith("_forward_") and "hooks" in name:
            setattr(module, name, getattr(before, name))
    parent, _, child = path.rpartition(".")
    shadow.get_submodule(parent)._modules[child] = module


def _own_tensors(module: nn.Module) -> list[Tensor]:
    groups = (module._parameters.values(), module._buffers.values(), vars(module).values())
    return [value for group in groups for value in group if isinstance(value, Tensor)]


def _share(tensor: Tensor, device: torch.device) -> Tensor:
    shared = tensor.detach().to(device)
    if shared.is_inference():  # autograd can't save one for the backward pass
        shared = shared.clone()
    return nn.Parameter(shared, requires_grad=False) if isinstance(tensor, nn.Parameter) else shared


def _share_hooks(module: nn.Module, memo: dict[int, Any]) -> None:
    """Make deepcopy copy the hook tables but not the hooks: these may hold on to anything."""
    for name, value in vars(module).items():
        if name.endswith("_hooks") and isinstance(value, dict):
            keep = name in ("_forward_hooks", "_forward_pre_hooks")
            memo[id(value)] = OrderedDict(value) if keep else OrderedDict()


def _clone(module: nn.Module, memo: dict[int, Any]) -> nn.Module:
    """Copy a module that runs an fx graph, all but its children.

    Its other attributes describe the generated program. They are never written, and hold tensors without data that
    can't be copied, so they are shared.
    """
    clone: nn.Module = object.__new__(type(module))  # a GraphModule's own __new__ makes a class without forward
    vars(clone).update(vars(module))
    for name, value in vars(module).items():
        if name.endswith("_hooks") or name in ("_parameters", "_buffers"):
            setattr(clone, name, copy.deepcopy(value, memo))
    memo[id(module)] = clone
    return clone


def _evaluation_mode(shadow: nn.Module) -> nn.Module:
    try:
        return shadow.eval()
    except NotImplementedError:  # an exported program's mode was fixed when it was exported
        return shadow
