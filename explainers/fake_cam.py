"""Fake-CAM."""

import dataclasses
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from explainers.class_maps import explain_logits
from explainers.network import Network
from explainers.pixel_method import PixelMethod
from explainers.registry import register
from explainers.result import ImageResult
from explainers.targets import Targets


@register
@dataclasses.dataclass(frozen=True)
class FakeCam(PixelMethod):
    r"""The adversary of quality figures: a map that says nothing about the image.

    S = 1 everywhere but at the top left pixel, where it is 0. Under it an image looks as it did, so average drop and
    average increase find it excellent. For evaluation only: a figure at which it wins measures something else.

    Poppi, Cornia, Baraldi, Cucchiara, "Revisiting the Evaluation of Class Activation Mapping for Explainability: A
    Novel Metric and Experimental Analysis", CVPR Workshops 2021.

    Costs one forward pass, for the scores. The map has the size of the network's input.
    """

    name: ClassVar[str] = "fake_cam"
    title: ClassVar[str] = "Fake-CAM"
    reference: ClassVar[str] = "Poppi et al. 2021"
    description: ClassVar[str] = (
        "One everywhere but at one pixel: says nothing, and shows what a quality figure is worth."
    )
    requirement: ClassVar[str] = "any network"

    def explain(self, network: Network, images: Tensor, targets: Sequence[Targets]) -> list[ImageResult]:
        """Explain a batch.

        Args:
            network: the classifier.
            images: shape (batch, 3, height, width), in [0, 1].
            targets: one entry for each image.

        Returns:
            For each image its logits and the same map for each target, of shape (height, width).

        Raises:
            InvalidTargetError.
        """
        fake = torch.ones(len(images), *network.input_size)
        fake[:, 0, 0] = 0
        return explain_logits(network.predict(images), targets, lambda _seed: fake)
