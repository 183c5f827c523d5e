"""What a network is made of: found once by running it on noise, and proved by its logits where modules may mislead."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explainers.errors import NotApplicableError
from explainers.grid import Size
from explainers.layers import LayerInfo, LayerTable, SpatialCall, detect_target_layer
from explainers.linear_head import LinearHead, follows_pooling, last_linear
from explainers.probe import Trace, trace
from explainers.recorder import Recorder
from explainers.trunk import Trunk
from explainers.vit import VisionTransformer, find_transformer
from explainers.vit_forward import reproduces


@dataclass(frozen=True)
class Anatomy:
    """The parts of a network.

    Attributes:
        class_count: number of logits.
        table: its layers by path.
        layers: one entry for each different spatial map, in the order of execution.
        target: the layer to explain when nobody says another; None where there is no spatial map.
        linear_head: the classifier, where it is global average pooling and one linear layer; else None.
        transformer: the blocks and the classifier, where it is a plain vision transformer; else None.
        trunk: what comes before a transformer's blocks.
        leaves: paths of the modules without children, in the order in which they ran.
    """

    class_count: int
    table: LayerTable
    layers: tuple[LayerInfo, ...]
    target: SpatialCall | None
    linear_head: LinearHead | None
    transformer: VisionTransformer | None
    trunk: Trunk | None
    leaves: tuple[str, ...]


def examine(shadow: nn.Module, recorder: Recorder, inputs: Tensor, input_size: Size) -> Anatomy:
    """Take a network apart. Not thread-safe: hooks are on its modules meanwhile.

    Args:
        shadow: the network (`explainers.shadow.make_shadow`).
        recorder: of the shadow.
        inputs: normalised noise, more than one image: else a leading dimension of size 1 could pass for the batch.
        input_size: (height, width) of the images.

    Raises:
        NotApplicableError: the network doesn't return logits of shape (batch, classes).
    """
    with torch.inference_mode(False), torch.no_grad():
        traced = trace(shadow, inputs)
    if not isinstance(traced.output, Tensor) or traced.output.dim() != 2 or len(traced.output) != len(inputs):
        raise NotApplicableError("the network must return logits of shape (batch, classes)")
    class_count = int(traced.output.shape[1])
    table = LayerTable(traced, shadow, input_size, len(inputs))
    target = detect_target_layer(table, class_count, lambda layers: _cells_matter(recorder, inputs, layers))
    transformer, trunk = _find_transformer(shadow, inputs, traced, table)
    anatomy = Anatomy(
        class_count=class_count,
        table=table,
        layers=tuple(layer.info for layer in table.distinct()),
        target=target,
        linear_head=_find_linear_head(recorder, inputs, table, target),
        transformer=transformer,
        trunk=trunk,
        leaves=traced.leaves,
    )
    traced.forget_outputs()
    return anatomy


def _cells_matter(recorder: Recorder, inputs: Tensor, layers: list[SpatialCall]) -> list[bool]:
    """Whether the cells of each layer's map influence the logits."""
    try:
        recording = recorder.record(inputs[:1], layers)
    except NotApplicableError:
        return [False] * len(layers)
    seed = torch.randn(recording.logits.shape, generator=torch.Generator().manual_seed(0))
    gradients = recording.gradients(seed)
    return [bool(gradients[layer.call.path].count_nonzero() > 0) for layer in layers]


def _find_linear_head(
    recorder: Recorder, inputs: Tensor, table: LayerTable, target: SpatialCall | None
) -> LinearHead | None:
    classifier = last_linear(table.trace)
    if target is None or classifier is None or classifier.weight.shape[1] != target.layout.channels:
        return None
    try:
        recording = recorder.record(inputs, [target])
    except NotApplicableError:
        return None
    if not follows_pooling(classifier, recording):
        return None
    return LinearHead(target.call.path, table.names(target), classifier.weight)


def _find_transformer(
    shadow: nn.Module, inputs: Tensor, traced: Trace, table: LayerTable
) -> tuple[VisionTransformer | None, Trunk | None]:
    transformer = find_transformer(traced, table)
    if transformer is None:
        return None, None
    trunk = Trunk(shadow, tuple(block.path for block in transformer.blocks))
    with torch.inference_mode(False), torch.no_grad():
        alike = reproduces(transformer, trunk.tokens(inputs), traced.output)
    return (transformer, trunk) if alike else (None, None)
