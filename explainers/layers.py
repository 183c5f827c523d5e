"""Which modules of a network have a spatial map, and which of them to explain when the caller doesn't say."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from explainers.errors import UnknownLayerError
from explainers.grid import GridFinder, Layout, Size
from explainers.probe import ModuleCall, Trace

CONVOLUTIONS = {"convolution"}
LAYER_NORMS = {"native_layer_norm", "_fused_rms_norm"}
WEIGHTED = CONVOLUTIONS | {"addmm", "mm", "bmm", "baddbmm", "linear"}

MOST_NORMS = 8  # how far back to look for one: the final one, and those of the last blocks


@dataclass(frozen=True)
class LayerInfo:
    """A module whose output is a spatial map.

    Attributes:
        path: where the module is in the network, as in `named_modules()`.
        channels: number of feature maps.
        height: of the native grid.
        width: of the native grid.
    """

    path: str
    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class SpatialCall:
    """The last call of a module that returned a spatial map.

    Attributes:
        order: position among all calls of the network.
        call: what was called.
        layout: of what it returned.
        ordinal: which of the module's calls it is, from 1.
    """

    order: int
    call: ModuleCall
    layout: Layout
    ordinal: int

    @property
    def info(self) -> LayerInfo:
        """The layer as the caller sees it."""
        return LayerInfo(self.call.path, self.layout.channels, self.layout.height, self.layout.width)


class LayerTable:
    """Every module of a network that returns a spatial map, by path.

    A module that runs several times in one forward pass stands for its last call.
    """

    def __init__(self, trace: Trace, network: nn.Module, input_size: Size, batch: int) -> None:
        finder = GridFinder(input_size, trace.convolution_sizes)
        self.trace = trace
        self._by_path: dict[str, SpatialCall] = {}
        counts: Counter[str] = Counter()
        for order, call in enumerate(trace.calls):
            counts[call.path] += 1
            layout = _layout(call, finder, batch)
            if layout is not None and call.path:
                self._by_path.pop(call.path, None)  # a repeated module moves to the place of its last call
                self._by_path[call.path] = SpatialCall(order, call, layout, counts[call.path])
        self._aliases = _aliases(network)

    def find(self, path: str) -> SpatialCall:
        """The layer at `path`.

        Raises:
            UnknownLayerError: there is no such module, it doesn't run, or what it returns is not one spatial map.
        """
        found = self._by_path.get(self._aliases.get(path, path))
        if found is None:
            raise UnknownLayerError("layer", "the network has no such layer with a spatial map")
        return found

    def distinct(self) -> tuple[SpatialCall, ...]:
        """One layer for each different map, in the order of execution."""
        groups: dict[tuple[int, int], list[SpatialCall]] = {}
        for layer in self._by_path.values():
            groups.setdefault(layer.call.identity, []).append(layer)
        return tuple(map(_preferred, groups.values()))

    def names(self, layer: SpatialCall) -> frozenset[str]:
        """Every path whose output is the same map as that of `layer`; only while outputs are kept."""
        paths = {path for path, other in self._by_path.items() if other.call.identity == layer.call.identity}
        return frozenset(paths | {alias for alias, path in self._aliases.items() if path in paths})

    def last_feature_map(self, class_count: int) -> SpatialCall | None:
        """The last convolutional feature map before the classifier.

        It is what the last convolution's map has become (through normalisation, activation, concatenation, the residual
        sum) before its size changes. A convolution whose maps are the class scores themselves is the classifier.
        """
        end = len(self.trace.calls)
        convolution = None
        weighted_after = False
        layers = {layer.order: layer for layer in self._by_path.values()}
        for order in reversed(range(end)):
            operations = self.trace.calls[order].operations
            layer = layers.get(order)
            if layer is not None and operations & CONVOLUTIONS:
                if weighted_after or layer.layout.channels != class_count:
                    convolution = layer
                    break
                end = order
            weighted_after |= bool(operations & WEIGHTED)
        if convolution is None:
            return None
        grown = [layer for layer in self.distinct() if convolution.order <= layer.order < end]
        same_size = [
            layer
            for layer in grown
            if layer.layout.size == convolution.layout.size and layer.layout.kind == "channels_first"
        ]
        return max(same_size, key=lambda layer: layer.order, default=convolution)

    def last_norms(self) -> list[SpatialCall]:
        """Layer normalisations of tokens or channels-last maps, last first."""
        layers = sorted(self._by_path.values(), key=lambda layer: -layer.order)
        return [
            layer
            for layer in layers
            if layer.call.operations & LAYER_NORMS and layer.layout.kind != "channels_first"
        ]


def detect_target_layer(
    table: LayerTable, class_count: int, cells_matter: Callable[[list[SpatialCall]], list[bool]]
) -> SpatialCall | None:
    """The layer to explain: the last convolutional feature map, or a transformer's last useful LayerNorm.

    Args:
        table: the layers of the network.
        class_count: number of logits.
        cells_matter: tells, for each layer of a list, whether the cells of its map influence the logits. After the
            last attention of many transformers only the class token does.

    Returns:
        Whichever of the two comes later in the network, or None when it has neither. Where the logits depend on
        nothing (a head of zeros, as before training), the very last LayerNorm.
    """
    features = table.last_feature_map(class_count)
    after = features.order if features is not None else -1
    norms = [layer for layer in table.last_norms() if layer.order > after][:MOST_NORMS]
    if not norms:
        return features
    matter = cells_matter(norms)
    return next((layer for layer, matters in zip(norms, matter, strict=True) if matters), norms[0])


def _layout(call: ModuleCall, finder: GridFinder, batch: int) -> Layout | None:
    output = call.output
    if not isinstance(output, Tensor) or not output.is_floating_point() or output.shape[:1] != (batch,):
        return None
    return finder.layout(tuple(output.shape))


def _aliases(network: nn.Module) -> dict[str, str]:
    """Every path of a module that is registered in several places, to the path under which it was traced."""
    first = {id(module): path for path, module in network.named_modules()}
    return {path: first[id(module)] for path, module in network.named_modules(remove_duplicate=False)}


def _preferred(layers: list[SpatialCall]) -> SpatialCall:
    """The path to show for one map: the largest module that makes it, as people name it.

    Plain containers and identities only pass it on: ResNet's map is `layer4.2`, not `layer4`; MobileNet's is
    `features.18`, not `features`.
    """
    makers = [layer for layer in layers if layer.call.active and not _is_plain_container(layer.call.module)]
    return min(makers or layers, key=lambda layer: (layer.call.path.count("."), layer.order))


def _is_plain_container(module: nn.Module) -> bool:
    if type(module).__name__ == "InterpreterModule":  # an exported program remembers what its modules were
        return str(module.type_name()).endswith(".Sequential")  # type: ignore[operator]
    return type(module) is nn.Sequential
