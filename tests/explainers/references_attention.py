"""The attention methods again, straight from their definitions: one image, one class, float64, every block and head.

They share nothing with `explainers`: gradients are autograd's, and so are the sums that the rules of relevance need.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from tests.explainers.references import Map, tokens_to_grid

EPSILON = 1e-9


@dataclass(frozen=True)
class Names:
    """What a vision transformer calls its parts.

    Attributes:
        attention: the attention module in a block.
        qkv: weight of the first linear layer in the attention.
        proj: the second linear layer.
        fc1: first linear layer of the MLP in a block.
        fc2: second one.
    """

    attention: str
    qkv: str
    proj: str
    fc1: str
    fc2: str


TORCH = Names("attention", "in_proj_", "out_proj", "mlp.0", "mlp.2")
TIMM = Names("attn", "qkv.", "proj", "mlp.fc1", "mlp.fc2")


@dataclass
class Layer:
    """One block's forward pass, head by head, with autograd's graph."""

    x: Tensor
    normed: Tensor
    queries: list[Tensor]
    keys: list[Tensor]
    values: list[Tensor]
    scores: list[Tensor]
    attentions: list[Tensor]
    mixed: Tensor
    attended: Tensor
    middle: Tensor
    normed2: Tensor
    hidden: Tensor
    activated: Tensor
    answer: Tensor


class Transformer:
    """A model's blocks, run one operation at a time on one image."""

    def __init__(self, model: nn.Module, image: Tensor, names: Names, heads: int) -> None:
        self.model = copy.deepcopy(model).double().eval().requires_grad_(False)
        self.names = names
        self.heads = heads
        entering: list[Tensor] = []
        self.model.blocks[0].register_forward_pre_hook(lambda _module, inputs: entering.append(inputs[0].clone()))
        self.model(image)
        x = entering[0][0].requires_grad_()
        self.layers: list[Layer] = []
        for block in self.model.blocks:
            self.layers.append(self._run(block, x))
            x = self.layers[-1].middle + self.layers[-1].answer
        self.output = x
        self.class_token = self.model.norm(x)[0]
        self.logits = self.model.head(self.class_token)

    def qkv(self, block: nn.Module) -> tuple[Tensor, Tensor]:
        """Weight and bias of the layer that makes queries, keys and values."""
        state = dict(block.get_submodule(self.names.attention).named_parameters())
        return state[self.names.qkv + "weight"], state[self.names.qkv + "bias"]

    def part(self, block: nn.Module, name: str) -> nn.Linear:
        """A linear layer of a block."""
        part = block.get_submodule(name)
        assert isinstance(part, nn.Linear)
        return part

    def proj(self, block: nn.Module) -> nn.Linear:
        """The layer behind the attention."""
        return self.part(block, f"{self.names.attention}.{self.names.proj}")

    def _run(self, block: nn.Module, x: Tensor) -> Layer:
        normed = block.norm1(x)
        weight, bias = self.qkv(block)
        size = x.shape[1] // self.heads
        columns = (normed @ weight.T + bias).split(size, dim=1)
        queries, keys, values = (list(columns[i * self.heads : (i + 1) * self.heads]) for i in range(3))
        scores = [q @ k.T for q, k in zip(queries, keys, strict=True)]
        attentions = [torch.softmax(each / size**0.5, dim=1) for each in scores]
        mixed = torch.cat([a @ v for a, v in zip(attentions, values, strict=True)], dim=1)
        attended = self.proj(block)(mixed)
        middle = x + attended
        normed2 = block.norm2(middle)
        hidden = self.part(block, self.names.fc1)(normed2)
        activated = nn.functional.gelu(hidden)
        answer = self.part(block, self.names.fc2)(activated)
        inside = (x, normed, queries, keys, values, scores, attentions, mixed, attended)
        return Layer(*inside, middle, normed2, hidden, activated, answer)


def tibav(
    transformer: Transformer,
    target: int,
    rule: str = "stable",
    start_layer: int = 0,
    attention_for_gradient: bool = False,
    last_block_only: bool = False,
) -> Tensor:
    """The class token's row of prod_b (I + mean_heads((grad A * R_A)^+)), every matrix computed in full, (tokens,)."""
    attentions = [attention for layer in transformer.layers for attention in layer.attentions]
    gradients = torch.autograd.grad(transformer.logits[target], attentions, retain_graph=True)
    relevances = attention_relevances(transformer, target, rule)
    heads, tokens = transformer.heads, len(attentions[0])
    product = torch.eye(tokens, dtype=torch.float64)
    for index in range(len(transformer.layers)):
        mean = torch.zeros(tokens, tokens, dtype=torch.float64)
        for head in range(heads):
            place = index * heads + head
            factor = attentions[place] if attention_for_gradient else gradients[place]
            mean += (factor.detach() * relevances[index][head]).clamp(min=0) / heads
        is_last = index == len(transformer.layers) - 1
        if last_block_only and is_last:
            return mean[0]
        if not last_block_only and index >= start_layer:
            product = (torch.eye(tokens, dtype=torch.float64) + mean) @ product
    return product[0]


def attention_relevances(transformer: Transformer, target: int, rule: str) -> list[list[Tensor]]:
    """Relevance of every attention matrix, by block and head, from a relevance of 1 at one logit."""
    return [heads for heads, _ in relevances(transformer, target, rule)]


def relevances(transformer: Transformer, target: int, rule: str) -> list[tuple[list[Tensor], Tensor]]:
    """For each block: relevance of its attention matrices, and of the tokens that enter it."""
    one_hot = torch.zeros(len(transformer.logits), dtype=torch.float64)
    one_hot[target] = 1
    relevance = torch.zeros_like(transformer.output)
    relevance[0] = through_linear(transformer.class_token, transformer.model.head.weight, one_hot)
    found = []
    for block, layer in reversed(list(zip(transformer.model.blocks, transformer.layers, strict=True))):
        heads, relevance = through_block(transformer, block, layer, relevance, rule)
        found.append((heads, relevance))
    return found[::-1]


def through_block(
    transformer: Transformer, block: nn.Module, layer: Layer, relevance: Tensor, rule: str
) -> tuple[list[Tensor], Tensor]:
    """Relevance of a block's attention matrices and of what enters it, given that of what leaves it."""
    names = transformer.names
    skipped, inner = through_sum(layer.middle, layer.answer, relevance, rule)
    inner = through_linear(layer.activated, transformer.part(block, names.fc2).weight, inner)
    inner = through_linear(layer.normed2, transformer.part(block, names.fc1).weight, inner)
    skipped, inner = through_sum(layer.x, layer.attended, skipped + inner, rule)
    mixed = through_linear(layer.mixed, transformer.proj(block).weight, inner).chunk(transformer.heads, dim=1)
    of_attentions, of_queries, of_keys, of_values = [], [], [], []
    for head in range(transformer.heads):
        attention, value = through_product(layer.attentions[head], layer.values[head], mixed[head], rule)
        query, key = through_product(layer.queries[head], layer.keys[head].T, attention, rule)
        of_attentions.append(attention)
        of_queries.append(query)
        of_keys.append(key.T)
        of_values.append(value)
    inner = torch.cat(of_queries + of_keys + of_values, dim=1)
    return of_attentions, skipped + through_linear(layer.normed, transformer.qkv(block)[0], inner)


def through_linear(x: Tensor, weight: Tensor, relevance: Tensor) -> Tensor:
    """alpha = 1, beta = 0: only products of x and W that are positive count."""
    positive, negative = x.detach().clamp(min=0), x.detach().clamp(max=0)

    def positive_part(a: Tensor, b: Tensor) -> Tensor:
        return a @ weight.clamp(min=0).T + b @ weight.clamp(max=0).T

    return sum(proportional(positive_part, (positive, negative), relevance), torch.tensor(0.0))


def through_product(a: Tensor, b: Tensor, relevance: Tensor, rule: str) -> tuple[Tensor, Tensor]:
    """Half to each operand of a matrix product."""
    if rule == "stable":
        a, b = a.abs(), b.abs()
    first, second = proportional(torch.matmul, (a, b), relevance)
    return first / 2, second / 2


def through_sum(a: Tensor, b: Tensor, relevance: Tensor, rule: str) -> tuple[Tensor, Tensor]:
    """In proportion to the terms; as published, then scaled by the sums."""
    if rule == "stable":
        first, second = proportional(torch.add, (a.abs(), b.abs()), relevance)
        return first, second
    first, second = proportional(torch.add, (a, b), relevance)
    both = first.sum().abs() + second.sum().abs()
    of_first, of_second = (quotient(part.sum().abs(), both) * relevance.sum() for part in (first, second))
    return first * quotient(of_first, first.sum()), second * quotient(of_second, second.sum())


def proportional(
    function: Callable[..., Tensor], operands: tuple[Tensor, Tensor], relevance: Tensor
) -> tuple[Tensor, Tensor]:
    """Each operand times the gradient of sum(S * function) with respect to it, S = relevance / function."""
    leaves = [operand.detach().requires_grad_() for operand in operands]
    value = function(*leaves)
    gradients = torch.autograd.grad(value, leaves, quotient(relevance, value.detach()))
    first, second = (leaf.detach() * gradient for leaf, gradient in zip(leaves, gradients, strict=True))
    return first, second


def quotient(relevance: Tensor, by: Tensor) -> Tensor:
    """R / (Z + 1e-9), or 0 where Z is 0."""
    return torch.where(by == 0, torch.zeros_like(by), relevance / (by + EPSILON))


def raw_attention(transformer: Transformer) -> Tensor:
    """Mean over the heads of the last block's row of the class token."""
    rows = [attention[0] for attention in transformer.layers[-1].attentions]
    return sum(rows, torch.zeros_like(rows[0])).detach() / len(rows)


def attention_rollout(transformer: Transformer) -> Tensor:
    """The class token's row of prod_b rownorm(mean_heads(A) + I)."""
    tokens = len(transformer.output)
    product = torch.eye(tokens, dtype=torch.float64)
    for layer in transformer.layers:
        mean = sum(layer.attentions, torch.zeros(tokens, tokens)) / transformer.heads
        matrix = mean.detach() + torch.eye(tokens)
        product = (matrix / matrix.sum(dim=1, keepdim=True)) @ product
    return product[0]


def as_map(row: Tensor, height: int, width: int) -> Map:
    """The weights of the patches, which come last, on their grid."""
    prefix = len(row) - height * width
    return tokens_to_grid(height, width, prefix)(row.detach()[None, :, None])[0, 0].numpy()
