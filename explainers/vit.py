"""Recognises plain vision transformers by their structure, whatever their modules are called.

A block is two layer normalisations, a softmax self-attention and an MLP of two linear layers with a GELU between them,
and nothing else that has weights. So timm's, torchvision's and many home-made ones are found, and those that compute
something more (relative positions, layer scale, normalised queries) are not. Structure alone is no proof:
`explainers.network` also compares the logits of `explainers.vit_forward` with the model's.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from explainers.errors import UnknownLayerError
from explainers.grid import Layout
from explainers.layers import LayerTable
from explainers.probe import Trace

HEAD_COUNTS = ("num_heads", "heads", "n_heads", "h")  # what attention modules call the number of their heads


@dataclass(eq=False)
class Linear:
    """y = x W^T + b: `weight` of shape (outputs, inputs), `bias` of shape (outputs,) or None."""

    weight: Tensor
    bias: Tensor | None
    _magnitude: tuple[int, Tensor] | None = field(default=None, init=False, repr=False)

    def split(self, outputs: int) -> tuple["Linear", ...]:
        """Layers of so many outputs each, one behind the other."""
        weights: tuple[Tensor, ...] = torch.split(self.weight, outputs)
        if self.bias is None:
            return tuple(Linear(weight, None) for weight in weights)
        return tuple(Linear(*pair) for pair in zip(weights, torch.split(self.bias, outputs), strict=True))

    def magnitude(self, dtype: torch.dtype) -> Tensor:
        """Absolute values of the weight: kept, and taken anew after the weight was written in place (not by `.data`).

        Those in another precision than the weight's are made at each call: they would take twice its memory.
        """
        if dtype != self.weight.dtype:
            return self.weight.abs().to(dtype)
        kept = self._magnitude
        if kept is None or kept[0] != self.weight._version:
            # Two threads may both come here: they store the same values.
            kept = self._magnitude = self.weight._version, self.weight.abs()
        return kept[1]


@dataclass(frozen=True, eq=False)
class Norm:
    """Layer normalisation over the last dimension."""

    weight: Tensor | None
    bias: Tensor | None
    eps: float


@dataclass(frozen=True, eq=False)
class Attention:
    """Softmax self-attention: one linear layer for queries, keys and values together, and one behind the heads."""

    qkv: Linear
    proj: Linear
    heads: int


@dataclass(frozen=True, eq=False)
class Mlp:
    """Two linear layers and a GELU between them; `approximate` is "none" or "tanh", as in torch."""

    fc1: Linear
    fc2: Linear
    approximate: str


@dataclass(frozen=True, eq=False)
class Block:
    """x = x + attention(norm1(x)), then x = x + mlp(norm2(x)). `path` is where its module is in the network."""

    path: str
    norm1: Norm
    attention: Attention
    norm2: Norm
    mlp: Mlp


@dataclass(frozen=True, eq=False)
class VisionTransformer:
    """What follows the patch embedding of a pre-norm transformer that classifies by its first token.

    The weights are views of the network's own, so they are always up to date.

    Attributes:
        blocks: in the order of execution.
        norm: the final normalisation.
        head: from the class token to the logits.
        prefix: number of tokens before those of the patches: the class token, and registers.
        height: of the grid of patches.
        width: of the grid of patches.
    """

    blocks: tuple[Block, ...]
    norm: Norm
    head: Linear
    prefix: int
    height: int
    width: int

    @property
    def versions(self) -> tuple[int, ...]:
        """Another one after a linear layer's weight was written in place (not by `.data`)."""
        pairs = [pair for block in self.blocks for pair in (block.attention, block.mlp)]
        layers = [layer for pair in pairs for layer in vars(pair).values() if isinstance(layer, Linear)]
        return tuple(layer.weight._version for layer in (*layers, self.head))


def find_transformer(trace: Trace, table: LayerTable) -> VisionTransformer | None:
    """The transformer that a traced network looks like, or None.

    Each block runs once, and between the last block and the logits are one normalisation and one linear layer.
    """
    found = [(order, _block(call.path, call.module)) for order, call in enumerate(trace.calls)]
    blocks = {order: block for order, block in found if block is not None}
    if not blocks or len({block.path for block in blocks.values()}) < len(blocks):
        return None
    ending = [call for call in trace.calls[max(blocks) + 1 :] if _is_weighted_leaf(call.module)]
    if len(ending) != 2:
        return None
    norm, head = _norm(ending[0].module), _linear(ending[1].module)
    layout = _layout(table, ending[0].path)
    if norm is None or head is None or layout is None or layout.kind != "tokens" or layout.prefix < 1:
        return None
    return VisionTransformer(tuple(blocks.values()), norm, head, layout.prefix, layout.height, layout.width)


def _layout(table: LayerTable, path: str) -> Layout | None:
    try:
        return table.find(path).layout
    except UnknownLayerError:
        return None


def _is_weighted_leaf(module: nn.Module) -> bool:
    return next(module.children(), None) is None and next(module.parameters(), None) is not None


def _block(path: str, module: nn.Module) -> Block | None:
    """The block that a module is, when every weight in it has a place in the description."""
    children = [child for child in module.children() if next(child.parameters(), None) is not None]
    if len(children) != 4 or len(list(module.parameters(recurse=False))) > 0:
        return None
    norm1, attention, norm2, mlp = _norm(children[0]), _attention(children[1]), _norm(children[2]), _mlp(children[3])
    if norm1 is None or attention is None or norm2 is None or mlp is None:
        return None
    return Block(path, norm1, attention, norm2, mlp)


def _norm(module: nn.Module) -> Norm | None:
    if not isinstance(module, nn.LayerNorm) or len(module.normalized_shape) != 1:
        return None
    return Norm(module.weight, module.bias, module.eps)


def _linear(module: nn.Module) -> Linear | None:
    return Linear(module.weight, module.bias) if isinstance(module, nn.Linear) else None


def _linears(module: nn.Module) -> tuple[Linear, ...]:
    """The linear layers inside a module, when it has no weights but theirs; else none."""
    found = [child for child in module.modules() if isinstance(child, nn.Linear)]
    same = _identities(module.parameters()) == _identities(weight for child in found for weight in child.parameters())
    return tuple(Linear(child.weight, child.bias) for child in found) if same else ()


def _identities(tensors: Iterable[Tensor]) -> set[int]:
    return {id(tensor) for tensor in tensors}


def _mlp(module: nn.Module) -> Mlp | None:
    linears = _linears(module)
    if len(linears) != 2 or linears[0].weight.shape[0] != linears[1].weight.shape[1]:
        return None
    activations = [child for child in module.modules() if isinstance(child, nn.GELU)]
    approximate = activations[0].approximate if activations else "none"  # without a module it is a function
    return Mlp(*linears, approximate)


def _attention(module: nn.Module) -> Attention | None:
    qkv, proj = _multihead(module) if isinstance(module, nn.MultiheadAttention) else _fused(module)
    heads = next((value for name in HEAD_COUNTS if isinstance(value := getattr(module, name, None), int)), 0)
    if qkv is None or proj is None or heads < 1:
        return None
    outputs, width = qkv.weight.shape
    if outputs != 3 * width or tuple(proj.weight.shape) != (width, width) or width % heads != 0:
        return None
    return Attention(qkv, proj, heads)


def _fused(module: nn.Module) -> tuple[Linear | None, Linear | None]:
    """As in timm: a linear layer for queries, keys and values, then one behind the attention, and no other weights."""
    linears = _linears(module)
    return (linears[0], linears[1]) if len(linears) == 2 else (None, None)


def _multihead(module: nn.MultiheadAttention) -> tuple[Linear | None, Linear | None]:
    """Torch's own, unless it has further weights: keys and values of another width, or learned extra ones."""
    weight = module.in_proj_weight
    if not isinstance(weight, Tensor) or module.bias_k is not None:
        return None, None
    return Linear(weight, module.in_proj_bias), Linear(module.out_proj.weight, module.out_proj.bias)
