"""Does what a model's maps show depend on what it has learnt? Asked once for each deployed version."""

from collections.abc import Sequence

import torch
from torch import Tensor

from explainers import METHODS, ExplainerError, Network, TopK
from handlers.loading import LoadedModel
from protos.explain.v1 import types_pb2
from quality import ModelRandomisation, explain_by, of_results

PASSES_BELOW = 0.5
STAGES = 4
IMAGES = 2
SEED = 0


def check(model: LoadedModel, methods: Sequence[str]) -> list[types_pb2.SanityCheck]:
    """The check of each of these methods that works on the model, with its defaults."""
    found = []
    for name in methods:
        try:
            correlation = _correlation(model, name)
        except ExplainerError:  # not for this network, or nothing in it can be randomised
            continue
        found.append(
            types_pb2.SanityCheck(
                method=name,
                rank_correlation=correlation,
                passed=correlation < PASSES_BELOW,
                stages=STAGES,
                images=IMAGES,
            )
        )
    return found


def _correlation(model: LoadedModel, name: str) -> float:
    """Mean of the maps' rank correlation with themselves, while the weights become random from the top."""
    network = model.network
    method = METHODS[name]().resolve(network)
    images = clouds(network)
    results = method.explain(network, images, [TopK()] * len(images))
    evidence = of_results(network, images, results, explain=explain_by(method), model=model.module)
    # A map that is constant for random weights surely depends on them.
    return float(ModelRandomisation(stages=STAGES, seed=SEED).values(evidence).nan_to_num(0.0).mean())


def clouds(network: Network) -> Tensor:
    """Images that are nobody's: seeded noise with the spectrum of photographs, shape (IMAGES, 3, height, width)."""
    generator = torch.Generator().manual_seed(SEED)
    height, width = network.input_size
    noise = torch.randn(IMAGES, 3, height, width, generator=generator)
    frequency = (torch.fft.fftfreq(height)[:, None] ** 2 + torch.fft.rfftfreq(width)[None] ** 2).sqrt()
    spectrum = torch.fft.rfft2(noise) / frequency.clamp(min=1 / max(height, width))
    values = torch.fft.irfft2(spectrum, s=(height, width))
    low, high = (values.flatten(1).quantile(share, dim=1).view(-1, 1, 1, 1) for share in (0.01, 0.99))
    images: Tensor = ((values - low) / (high - low)).clamp(0, 1)
    return images
