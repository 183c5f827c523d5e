"""LRP: layer-wise relevance propagation."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor

from explainers.abilities import relevance_obstacle
from explainers.class_maps import explain_logits
from explainers.errors import NotApplicableError
from explainers.lrp_operations import obstacle
from explainers.lrp_pass import Propagation
from explainers.lrp_rules import RULE_SETS
from explainers.network import Network
from explainers.parameters import parameter
from explainers.pixel_method import PixelMethod
from explainers.registry import register
from explainers.result import ImageResult
from explainers.targets import Targets


@register
@dataclasses.dataclass(frozen=True)
class Lrp(PixelMethod):
    r"""The class score, handed back layer by layer to the pixels that it came from.

    The relevance of the logit is the logit itself. Every neuron hands its relevance to its inputs in proportion to what
    they contributed to it, by the rules in `explainers.lrp_rules`; S = sum over colour of what arrives at the pixels.
    Four sets of rules:

    - deep_taylor: only positive contributions count (z+), and the first layer takes into account that pixels lie in
      [0, 1] (z^B). Biases take nothing, so S adds up to the logit: it has the logit's sign everywhere, and shows how
      much of the score came from where. The relevance of a neuron without any positive contribution is lost: one that
      only its bias makes active, or a negative one that no ReLU follows. A SqueezeNet and a ResNet-20 lost none. A
      MobileNetV2, whose depthwise convolutions have many such neurons, lost more than 99 %: its map shows where the
      rest came from.
    - epsilon: all contributions count, with their sign, and biases take their share: S doesn't add up to the logit.
    - alpha2_beta1: twice the positive contributions, less the negative ones. S adds up to the logit where every neuron
      has contributions of both signs.
    - composite: epsilon for linear layers, z+ for convolutions, z^B for the first layer.

    ReLU passes relevance on; max pooling gives it to the winner; sums and averages share by z+ (a negative sum by its
    negative terms), or by epsilon under that rule. Batch normalisation is part of the layer in front of it; where there
    is none it passes relevance on.

    Bach, Binder, Montavon, Klauschen, Mueller, Samek, "On Pixel-Wise Explanations for Non-Linear Classifier Decisions
    by Layer-Wise Relevance Propagation", PLoS ONE 2015. Montavon, Lapuschkin, Binder, Samek, Mueller, "Explaining
    nonlinear classification decisions with deep Taylor decomposition", Pattern Recognition 2017. Binder, Montavon,
    Lapuschkin, Mueller, Samek, "Layer-Wise Relevance Propagation for Neural Networks with Local Renormalization
    Layers", ICANN 2016.

    Costs about four forward passes for one target and two for each further one, as measured on ResNet-18 on a CPU, and
    keeps what enters every layer in memory.
    """

    name: ClassVar[str] = "lrp"
    title: ClassVar[str] = "LRP"
    reference: ClassVar[str] = "Bach et al. 2015; Montavon et al. 2017"
    description: ClassVar[str] = "The class score, handed back layer by layer to the pixels that it came from."
    requirement: ClassVar[str] = "a network of convolutions, linear layers, ReLU, pooling, batch normalisation and sums"

    rule: str = parameter(
        "deep_taylor",
        "Set of rules: deep_taylor (the raw map adds up to the score where no relevance is lost), epsilon, "
        "alpha2_beta1, or composite.",
        choices=tuple(RULE_SETS),
    )
    epsilon: float = parameter(
        1e-6, "Stabiliser of the rules epsilon and composite; the others have none.", minimum=0, maximum=10
    )

    def resolve(self, network: Network) -> Self:
        """The method itself: no parameter depends on the network.

        Raises:
            NotApplicableError: an operation between the pixels and the logits has no rule.
        """
        _require_none(relevance_obstacle(network), network)
        return self

    def explain(self, network: Network, images: Tensor, targets: Sequence[Targets]) -> list[ImageResult]:
        """Explain a batch.

        Args:
            network: the classifier.
            images: shape (batch, 3, height, width), in [0, 1].
            targets: one entry for each image.

        Returns:
            For each image its logits and maps of shape (height, width), in [0, 1]; raw maps have either sign.

        Raises:
            NotApplicableError, InvalidTargetError.
        """
        self.resolve(network)
        tape = network.tape(images)
        _require_none(obstacle(tape), network)  # a network may take another way for these images than for noise
        propagation = Propagation(tape, RULE_SETS[self.rule], self.epsilon, network.pixel_bounds)

        def raw_map(seed: Tensor) -> Tensor:
            return propagation(tape.logits.where(seed != 0, 0)).sum(dim=1)

        with torch.inference_mode(False):
            return explain_logits(tape.logits, targets, raw_map)


def _require_none(obstacle: str | None, network: Network) -> None:
    if obstacle is not None:
        raise NotApplicableError(obstacle if network.transformer is None else f"{obstacle}; take tibav")
