"""A classifier prepared for explanation."""

import copy
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property, partial
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, nn

from explainers.activation import Activation
from explainers.alike import with_rows_alike
from explainers.anatomy import examine
from explainers.arranged import Arrangement, in_channels_last, with_fewer_operations
from explainers.errors import NotApplicableError
from explainers.graphs import Graphs
from explainers.grid import Layout
from explainers.layers import LayerInfo
from explainers.lrp_operations import FORGETTABLE
from explainers.lrp_tape import Tape, record
from explainers.normalisation import Normalisation
from explainers.opaque import has_opaque_part
from explainers.recorder import Edit, Recorder, Recording
from explainers.shadow import make_shadow

Result = TypeVar("Result")

# Images that go through the network together without gradients. On a CPU from 16 on each is slower than by itself: what
# the layers hand on no longer stays in the cache.
IMAGES_AT_ONCE = {"cpu": 8, "cuda": 32}
PROBE_BATCH = 2  # more than one, so that the batch can't be mistaken for a leading dimension of size 1


class Network:
    """A classifier that can be asked for scores, activations and gradients.

    It takes images as pixels in [0, 1] and does the model's own normalisation itself. Nothing is ever put on or changed
    in `model`: the work is done on a shadow that shares its weights (see `explainers.shadow`). Any number of threads
    may use one Network.

    Attributes:
        input_size: (height, width) that the images must have.
        class_count: number of logits.
        activation: from logits to probabilities.
        device: where it computes.
        memory_format: the order of the pixels that `predict` and `logits` put images in; preserved where any will do.
        autocast: what `predict`, `logits`, `record` and `changed_logits` compute products in; None: in their own dtype.
        has_opaque_part: whether another library computes a part of it.
        trials: what was tried on it once, and what came out; shared by its copies.
        graphs: programs that were captured on the GPU to be replayed; none on a CPU.
        layers: one entry for each different spatial map, in the order of execution.
        linear_head: the classifier, where it is global average pooling and one linear layer; else None.
        transformer: the blocks and the classifier, where it is a plain vision transformer; else None.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        input_size: tuple[int, int],
        mean: Sequence[float],
        std: Sequence[float],
        target_layer: str | None = None,
        activation: Activation = Activation.SOFTMAX,
        device: torch.device | str = "cpu",
    ) -> None:
        """Prepare a classifier: copies its module tree, and runs it a few times on noise to find its layers.

        Args:
            model: takes (batch, 3, height, width) and returns logits (batch, classes). Left untouched.
            input_size: (height, width) of its images.
            mean: for each channel, subtracted from the pixels.
            std: for each channel, divides what is left.
            target_layer: module path of the layer to explain by default; detected when not given.
            activation: of the head; the model itself must not apply it.
            device: where to compute.

        Raises:
            UnknownLayerError: there is no layer `target_layer` with a spatial map.
            NotApplicableError: the model doesn't return logits of shape (batch, classes).
        """
        self.input_size = input_size
        self.activation = activation
        self.device = torch.device(device)
        self._shadow = make_shadow(model, self.device)
        self._recorder = Recorder(self._shadow)
        self._dtype = next((p.dtype for p in self._shadow.parameters() if p.is_floating_point()), torch.float32)
        self._normalisation = Normalisation(mean, std, self._dtype, self.device)
        self.memory_format = torch.preserve_format
        self.autocast: torch.dtype | None = None
        self.graphs = Graphs(self.device)
        self.has_opaque_part = has_opaque_part(self._shadow)
        self.trials: dict[Hashable, Any] = {}
        with torch.inference_mode(False), torch.no_grad():
            inputs = self._normalise(self.noise(PROBE_BATCH))
        parts = examine(self._shadow, self._recorder, inputs, input_size)
        self.class_count, self.layers, self._leaves = parts.class_count, parts.layers, parts.leaves
        self.linear_head, self.transformer, self._trunk = parts.linear_head, parts.transformer, parts.trunk
        self._table = parts.table
        self._target = parts.target if target_layer is None else parts.table.find(target_layer)

    def predict(self, images: Tensor) -> Tensor:
        """Logits of a batch.

        Args:
            images: shape (batch, 3, height, width), in [0, 1].

        Returns:
            Shape (batch, classes), float32, on the network's device.
        """
        with torch.inference_mode():
            return self.logits(images).float()

    def logits(self, images: Tensor) -> Tensor:
        """Logits in the model's own precision, differentiable with respect to `images`: a building block of methods."""
        inputs = self._normalise(images)
        with self._autocasting():
            logits: Tensor = self._shadow(inputs)
        return logits

    def in_autocast(self, dtype: torch.dtype) -> Self:
        """The same network, with its passes under torch's autocast to bfloat16 or float16; logits may have that dtype.

        `tokens` and `tape`, on which attention methods and LRP are built, stay as they are.
        """
        network = copy.copy(self)
        network.autocast = dtype
        return network

    def for_many_passes(self, *, rows_alike: bool = False) -> Self:
        """The same network, with `predict` and `logits` faster on a CPU: for the time of one explanation.

        It puts images in the order of channels_last, and has modules and weights of its own (`explainers.arranged`): a
        later update of the model may not show. Its logits are the same but for rounding. Where the network can't take
        images in that order, and in autocast, this is the network itself.

        Args:
            rows_alike: whether each image of a batch is to get the bits that it gets alone, where that can be had for
                some of the speed (`explainers.alike`).
        """
        if self.device.type != "cpu" or self.autocast is not None:
            return self
        arrangement = self._arrangement_of_alike_rows if rows_alike else self._arrangement
        return self if arrangement is None else self._arranged(arrangement)

    @property
    def images_at_once(self) -> int:
        """How many images to give `predict` together where there are many."""
        return IMAGES_AT_ONCE.get(self.device.type, IMAGES_AT_ONCE["cpu"])

    def record(self, images: Tensor, layer: str, *further: str, gradients: bool = True) -> Recording:
        """Run a batch once and keep what is needed for the gradients of any number of targets.

        Args:
            images: shape (batch, 3, height, width), in [0, 1]. The graph starts at the layers; where the images require
                gradients, it starts at the images.
            layer: module path of the layer to record.
            further: more layers to record in the same pass.
            gradients: False where only activations and logits are wanted, which every network has.

        Raises:
            UnknownLayerError: no layer with a spatial map at one of the paths.
            NotApplicableError: the logits don't depend on a layer in a differentiable way.
        """
        layers = [self._table.find(path) for path in (layer, *further)]
        with torch.inference_mode(False), torch.set_grad_enabled(images.requires_grad):
            inputs = self._normalise(images)
        with self._autocasting():
            return self._recorder.record(inputs, layers, gradients=gradients)

    def changed_logits(self, images: Tensor, layer: str, edit: Edit) -> Tensor:
        """Logits with the output of a layer changed, in the model's own precision and without gradients.

        Where `explainers.abilities.head_broadcasts`, one image may be given for many changes: the network then runs
        once up to the layer, and what follows runs on all of them.

        Args:
            images: shape (batch, 3, height, width), in [0, 1].
            layer: module path of the layer.
            edit: takes the activation, shape (batch, channels, h, w), to a changed one, shape (n, channels, h, w); it
                must not write the one that it gets. n is the batch, or any number for a batch of one.

        Returns:
            Shape (n, classes).

        Raises:
            UnknownLayerError: no layer with a spatial map there.
        """
        found = self._table.find(layer)
        with torch.inference_mode():
            inputs = self._normalise(images)
        with self._autocasting():
            return self._recorder.change(inputs, found, edit)

    def tokens(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """What enters the first block of `transformer`, (batch, tokens, D), without gradients.

        Args:
            images: shape (batch, 3, height, width), in [0, 1].
            dtype: precision of every step from the pixels on.

        Raises:
            NotApplicableError: the network is no plain vision transformer, or bypasses its blocks for these images.
        """
        if self._trunk is None:
            raise NotApplicableError("the network is no plain vision transformer")
        with torch.inference_mode(False), torch.no_grad():
            return self._trunk.tokens(self._normalise(images, dtype))

    def tape(self, images: Tensor) -> Tape:
        """One forward pass written down operation by operation, for relevance propagation.

        Args:
            images: shape (batch, 3, height, width), in [0, 1].
        """
        with torch.inference_mode(False), torch.no_grad():
            return record(self._shadow, self._normalise(images), FORGETTABLE)

    @property
    def pixel_bounds(self) -> tuple[Tensor, Tensor]:
        """Black and white as the network takes them, each of shape (1, 3, 1, 1)."""
        return self._normalisation.bounds

    def layer(self, path: str | None = None) -> LayerInfo:
        """The layer at a module path, or the target layer.

        Raises:
            UnknownLayerError: no layer with a spatial map there.
            NotApplicableError: no path is given and the network has no spatial map.
        """
        return self.target_layer if path is None else self._table.find(path).info

    def layout(self, path: str) -> Layout:
        """How the output of the layer at a module path is laid out.

        Raises:
            UnknownLayerError: no layer with a spatial map there.
        """
        return self._table.find(path).layout

    @property
    def target_layer(self) -> LayerInfo:
        """The layer to explain when the caller doesn't choose one.

        Raises:
            NotApplicableError: the network has no spatial map.
        """
        if self._target is None:
            raise NotApplicableError("the network has no layer with a spatial map")
        return self._target.info

    @property
    def mean_colour(self) -> Tensor:
        """The pixel that the model's normalisation takes to zero, shape (channels, 1, 1), float32."""
        return self._normalisation.mean[0].float()

    def noise(self, count: int = 1) -> Tensor:
        """Images to try something on, always the same: shape (count, 3, height, width), in [0, 1], on the CPU."""
        generator = torch.Generator().manual_seed(0)
        return torch.rand(count, self._normalisation.mean.numel(), *self.input_size, generator=generator)

    def tried(self, name: Hashable, trial: Callable[[], Result]) -> Result:
        """What a trial returns, or returned the first time that one of this name was made."""
        if name not in self.trials:
            self.trials[name] = trial()
        found: Result = self.trials[name]
        return found

    def like(self, model: nn.Module) -> Self:
        """Another model ready to explain: with the same input, normalisation, target layer, activation and device.

        Raises:
            UnknownLayerError, NotApplicableError: as in the constructor.
        """
        mean, std = self._normalisation.statistics
        layer = None if self._target is None else self._target.info.path
        return type(self)(
            model,
            input_size=self.input_size,
            mean=mean,
            std=std,
            target_layer=layer,
            activation=self.activation,
            device=self.device,
        )

    def _normalise(self, images: Tensor, dtype: torch.dtype | None = None) -> Tensor:
        if images.dim() != 4 or tuple(images.shape[2:]) != tuple(self.input_size):
            raise ValueError(f"images must have shape (batch, 3, {self.input_size[0]}, {self.input_size[1]})")
        return self._normalisation(images, dtype, self.memory_format)

    def _autocasting(self) -> AbstractContextManager[object]:
        if self.autocast is None:
            return nullcontext()
        # Without a cache of converted weights: it is no use without gradients of weights, and a captured graph would
        # keep on reading it.
        return torch.autocast(self.device.type, dtype=self.autocast, cache_enabled=False)

    def _arranged(self, arrangement: Arrangement) -> Self:
        network = copy.copy(self)
        with self._recorder.no_new_hooks(), torch.inference_mode(False), torch.no_grad():
            network._shadow = arrangement(self._shadow)
        network.memory_format = torch.channels_last
        return network

    @cached_property
    def _arrangement(self) -> Arrangement | None:
        """The one of fewest operations with which the logits are the same; None where there is none. Tried once.

        A network may look at its memory as it lies, and its modules alone don't say what stands between them.
        """
        fewer = partial(with_fewer_operations, device=self.device, leaves=self._leaves, transformer=self.transformer)
        return self._first_that_says_the_same(self.noise(), fewer, partial(in_channels_last, device=self.device))

    @cached_property
    def _arrangement_of_alike_rows(self) -> Arrangement | None:
        arrangement = self._arrangement
        if arrangement is None:
            return None
        alike = partial(with_rows_alike, arrangement=arrangement)
        return self._first_that_says_the_same(self.noise(PROBE_BATCH), alike, arrangement)

    def _first_that_says_the_same(self, images: Tensor, *arrangements: Arrangement) -> Arrangement | None:
        expected = self.predict(images)
        return next((each for each in arrangements if self._says_the_same(each, images, expected)), None)

    def _says_the_same(self, arrangement: Arrangement, images: Tensor, expected: Tensor) -> bool:
        try:
            logits = self._arranged(arrangement).predict(images)
        except Exception:  # whatever the network raises at strides and shapes that it doesn't expect
            return False
        return torch.allclose(logits, expected, rtol=1e-3, atol=1e-4)
