"""Opti-CAM."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from explainers.abilities import is_differentiable
from explainers.ascent import Adam, Rule, climb
from explainers.errors import NotApplicableError
from explainers.layer_method import LayerMethod
from explainers.masking import Stretched, Upsampling, mask_gradient
from explainers.mixing import MaskSteps, Mixtures
from explainers.network import Network
from explainers.pairs import Pairs, few_at_once, rows_at_once
from explainers.parameters import parameter
from explainers.registry import register
from explainers.result import ImageResult
from explainers.rows import batch_sizes
from explainers.targets import Targets, resolve
from explainers.watch import Stepwise, Watch, show


@dataclasses.dataclass(frozen=True)
class Preset:
    """A way to optimise.

    Attributes:
        steps: how many.
        learning_rate: of the first step.
        rule: makes the rule for (learning rate, steps, mixtures, u at the start).
        by_map: whether the rule goes by the gradient with respect to S(u), and not to u.
    """

    steps: int
    learning_rate: float
    rule: Callable[[float, int, Mixtures, Tensor], Rule]
    by_map: bool


PRESETS = {
    "published": Preset(100, 0.1, lambda learning_rate, *_: Adam(learning_rate), by_map=False),
    "fast": Preset(48, 0.2, MaskSteps, by_map=True),
}


@register
@dataclasses.dataclass(frozen=True)
class OptiCam(LayerMethod, Stepwise):
    r"""The mixture of feature maps that, laid on the image as a mask, makes the class score as high as it gets.

    S(u) = sum_k softmax(u)_k A_k with u* = argmax_u f(N(x * n(up(S(u)))))_c. A_k are the layer's feature maps, ReLU-ed
    where they come from convolutions, as they are where they are patch tokens behind a LayerNorm. up() enlarges to the
    image bilinearly, n() stretches each map to [0, 1], and the mask lies on the pixels before the model's normalisation
    N. f gives logits. u starts at 0, where all maps count alike, and of all steps the best one is answered.

    Zhang, Torres, Sicre, Ayache, Avrithis, "Opti-CAM: Optimizing saliency maps for interpretability", CVIU 2024,
    arXiv 2301.07002.

    Preset `published` is the paper's: Adam at learning rate 0.1, 100 steps. Preset `fast` reaches a higher score in
    half the passes (`explainers.mixing.MaskSteps`), but not the same map: where very different mixtures score almost
    alike, two ways to climb end at different ones. docs/benchmarks/opti_cam.md says how different they are.

    Costs 2 forward passes and, for each target and step, a forward pass and its gradient with respect to the image; on
    a CPU also the memory of the convolutions' kernels once more.
    """

    name: ClassVar[str] = "opti_cam"
    title: ClassVar[str] = "Opti-CAM"
    reference: ClassVar[str] = "Zhang et al. 2024"
    description: ClassVar[str] = (
        "The mixture of a layer's feature maps that, as a mask on the image, makes the class score highest."
    )

    preset: str = parameter(
        "published",
        "How to optimise: published (Adam, 100 steps of 0.1) or fast (a score at least about as high in half the"
        " passes, but often by another map).",
        choices=tuple(PRESETS),
    )
    steps: int | None = parameter(
        None, "Steps of the optimiser; without it, the preset's: 100 or 48.", minimum=1, maximum=1000
    )
    learning_rate: float | None = parameter(
        None, "Learning rate of the first step; without it, the preset's: 0.1 or 0.2.", minimum=1e-4, maximum=10
    )

    def resolve(self, network: Network) -> Self:
        """The method with its layer, steps and learning rate filled in.

        Raises:
            UnknownLayerError: the network has no such layer with a spatial map.
            NotApplicableError: no layer is given and the network has no spatial map, or the logits have no gradient
                with respect to the pixels.
        """
        layer = self.target_layer(network)
        if not is_differentiable(network):
            raise NotApplicableError("the scores don't depend on the pixels in a differentiable way")
        preset = PRESETS[self.preset]
        return dataclasses.replace(
            self,
            layer=layer,
            steps=preset.steps if self.steps is None else self.steps,
            learning_rate=preset.learning_rate if self.learning_rate is None else self.learning_rate,
        )

    def explain(
        self, network: Network, images: Tensor, targets: Sequence[Targets], watch: Watch | None = None
    ) -> list[ImageResult]:
        """Explain a batch.

        Args:
            network: the classifier.
            images: shape (batch, 3, height, width), in [0, 1].
            targets: one entry for each image.
            watch: is told of every step, and may stop the method early.

        Returns:
            For each image its logits and maps on the layer's grid, in [0, 1]; the raw maps are S(u*).

        Raises:
            UnknownLayerError, NotApplicableError, InvalidTargetError, and whatever `watch` raises.
        """
        layer = self.target_layer(network)
        with torch.inference_mode(False), torch.no_grad():
            activation, logits = _record(network, images, layer)
            pairs = Pairs.of(resolve(targets, logits), network.device)
            if not len(pairs):
                return pairs.results(logits, torch.empty(0, 1, 1))
            score = MaskedScore(network, images, activation, pairs, by_map=PRESETS[self.preset].by_map)
            start = activation.new_zeros(len(pairs), activation.shape[1])

            def results(mixture: Tensor) -> list[ImageResult]:
                return pairs.results(logits, score.maps(mixture))

            def so_far(mixture: Tensor) -> None:
                show(watch, lambda: results(mixture))

            rule = self._rule(score.mixtures, start)
            return results(climb(score, start, rule, self._steps(), watch, so_far))

    def _steps(self) -> int:
        return PRESETS[self.preset].steps if self.steps is None else self.steps

    def _rule(self, mixtures: Mixtures, start: Tensor) -> Rule:
        preset = PRESETS[self.preset]
        rate = preset.learning_rate if self.learning_rate is None else self.learning_rate
        return preset.rule(rate, self._steps(), mixtures, start)


def _record(network: Network, images: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    """A of every image, and its logits in float32 on the CPU."""
    recordings = [network.record(part, layer, gradients=False) for part in torch.split(images, rows_at_once(network))]
    activation = torch.cat([recording.activation for recording in recordings])
    logits = torch.cat([recording.logits for recording in recordings])
    from_convolution = network.layout(layer).kind == "channels_first"
    return activation.relu() if from_convolution else activation, logits.float().cpu()


class MaskedScore:
    """The objective: u to f(N(x * n(up(S(u)))))_c and its gradient, for any rows of (image, target).

    Autograd goes through the network only: what comes before it has its gradient written out.

    Attributes:
        mixtures: S(u) of the rows.
    """

    def __init__(
        self, network: Network, images: Tensor, activation: Tensor, pairs: Pairs, *, by_map: bool = False
    ) -> None:
        """Keep what the score needs: `activation` is A, shape (images, channels, h, w); `by_map` as in `Preset`."""
        self._network = network.for_many_passes(rows_alike=True)
        # A copy, because one made under inference mode can't be saved for a gradient.
        self._images = images.to(network.device).clone(memory_format=self._network.memory_format)
        self._dtype = activation.dtype
        self._pairs = pairs
        self._by_map = by_map
        self.mixtures = Mixtures(activation, pairs.images, by_itself=rows_at_once(network) == 1)
        native = (activation.shape[2], activation.shape[3])
        self._enlarge = Upsampling(native, network.input_size, activation)
        self._loop = network.graphs.loop()

    def maps(self, mixture: Tensor) -> Tensor:
        """S(u) of every row, shape (rows, h, w), for u of shape (rows, channels)."""
        return self.mixtures(mixture.softmax(dim=1), torch.arange(len(mixture), device=mixture.device))

    def __call__(self, mixture: Tensor, rows: Tensor, with_gradient: bool) -> tuple[Tensor, Tensor | None]:
        """The score of rows, shape (n,), at u, shape (n, channels), and its gradient if asked for.

        The gradient has the shape of u or, by the map, (n, h, w).
        """
        sizes = batch_sizes(self._network, len(rows))
        parts = zip(torch.split(mixture, sizes), torch.split(rows, sizes), strict=True)
        if not with_gradient:
            return torch.cat([self._score(*part) for part in parts]), None
        scores, gradients = zip(*(self._loop(self._score_and_gradient, *part) for part in parts), strict=True)
        return torch.cat(scores), torch.cat(gradients)

    def _score(self, mixture: Tensor, rows: Tensor) -> Tensor:
        stretched = self._stretched(mixture.softmax(dim=1), rows)
        return self._score_of(self._images[self._pairs.images[rows]] * stretched.maps[:, None], rows)

    def _score_and_gradient(self, mixture: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        weights, images = mixture.softmax(dim=1), self._images[self._pairs.images[rows]]
        stretched = self._stretched(weights, rows)
        with torch.enable_grad():
            masked = (images * stretched.maps[:, None]).requires_grad_()
            scores = self._score_of(masked, rows)
            (of_masked,) = torch.autograd.grad(scores.sum(), masked)
        of_mask = mask_gradient(of_masked, images.to(of_masked)).to(self._dtype)
        of_maps = few_at_once(self._network, self._enlarge.gradient, stretched.gradient(of_mask))
        gradient = of_maps if self._by_map else self.mixtures.gradient(weights, of_maps, rows)
        return scores.detach(), gradient

    def _stretched(self, weights: Tensor, rows: Tensor) -> Stretched:
        """The masks of rows, from softmax(u)."""
        return Stretched.of(few_at_once(self._network, self._enlarge, self.mixtures(weights, rows)))

    def _score_of(self, masked: Tensor, rows: Tensor) -> Tensor:
        logits = self._logits(masked)
        return logits.gather(1, self._pairs.classes[rows][:, None])[:, 0].to(self._dtype)

    def _logits(self, masked: Tensor) -> Tensor:
        return self._network.logits(masked)
