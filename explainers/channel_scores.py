"""The class scores of an image seen through each feature map of a layer: what Score-CAM and SS-CAM share."""

from collections.abc import Sequence

import torch
from torch import Tensor

from explainers.class_maps import explain_recording
from explainers.layer_method import weighted_sum
from explainers.masking import Upsampling, masked_logits, min_max
from explainers.network import Network
from explainers.progress import Progress
from explainers.result import ImageResult
from explainers.targets import Targets
from explainers.watch import Watch


def explain_channel_scores(
    network: Network, layer: str, images: Tensor, targets: Sequence[Targets], noise: Tensor, watch: Watch | None
) -> list[ImageResult]:
    """Maps S = ReLU(sum_k w_k A_k), with w the softmax over the channels of their scores for the target.

    Args:
        network: the classifier.
        layer: module path of the layer with the activation A.
        images: shape (batch, 3, height, width), in [0, 1].
        targets: one entry for each image.
        noise: added to the masks, shape (samples, height, width), on the network's device.
        watch: is told of every pass; there is no map before the last.
    """
    recording = network.record(images, layer, gradients=False)
    activation = recording.activation
    pixels = images.to(network.device)
    with torch.inference_mode():
        distinct = [_distinct(of_image) for of_image in activation]
        network = network.for_many_passes()
        chunks = sum(len(torch.split(representatives, network.images_at_once)) for representatives, _ in distinct)
        progress = Progress(chunks * len(noise), watch)
        scores = [
            _channel_scores(network, image, of_image[representatives], noise, progress)[places]
            for image, of_image, (representatives, places) in zip(pixels, activation, distinct, strict=True)
        ]
        table = torch.stack(scores).to(activation)

    def raw_map(seed: Tensor) -> Tensor:
        of_target = torch.einsum("bkc,bc->bk", table, seed.to(table))
        return weighted_sum(of_target.softmax(dim=1), activation)

    return explain_recording(recording, targets, raw_map)


def _channel_scores(network: Network, image: Tensor, activation: Tensor, noise: Tensor, progress: Progress) -> Tensor:
    """Mean over i of f(N(x * (n(up(A_k)) + noise_i))) for each channel k.

    Args:
        network: the classifier f with its normalisation N.
        image: x, shape (3, height, width), in [0, 1].
        activation: A, shape (channels, h, w).
        noise: added to the masks, shape (samples, height, width).
        progress: gets a step for each sample of every `Network.images_at_once` channels.

    Returns:
        Shape (channels, classes).
    """
    enlarge = Upsampling((activation.shape[1], activation.shape[2]), network.input_size, activation)

    def score(masks: Tensor, sample: Tensor) -> Tensor:
        logits = masked_logits(network, image.expand(len(masks), -1, -1, -1), masks + sample)
        progress.step()
        return logits

    masks = (min_max(enlarge(some)) for some in torch.split(activation, network.images_at_once))
    return torch.cat([torch.stack([score(some, sample) for sample in noise]).mean(dim=0) for some in masks])


def _distinct(activation: Tensor) -> tuple[Tensor, Tensor]:
    """One channel of each different mask, and for every channel its place among them: constant ones are all zero."""
    channels = torch.arange(len(activation), device=activation.device)
    constant = (min_max(activation) == 0).flatten(1).all(dim=1)
    first_constant = constant.int().argmax()
    representative = torch.where(constant, first_constant, channels)
    representatives, places = torch.unique(representative, return_inverse=True)
    return representatives, places
