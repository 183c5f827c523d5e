"""LIME, KernelSHAP and Shapley values against captum, on the same superpixels."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from explainers import Classes
from explainers.kernel_shap import KernelShap
from explainers.lime import Lime
from explainers.superpixels import Superpixels
from tests.explainers.cases import network_of
from tests.explainers.networks import pictures

pytestmark = pytest.mark.oracle
TARGET = 2


def probabilities(subject: str) -> Callable[[Tensor], Tensor]:
    """What captum explains."""
    net = network_of(subject)
    return lambda images: net.predict(images).softmax(dim=1)


def ours(method: Lime | KernelShap, subject: str) -> Tensor:
    """The raw map of one class of one image."""
    (item,) = method.explain(network_of(subject), pictures(1), [Classes((TARGET,))])[0].explanations
    return item.map * (item.raw_maximum - item.raw_minimum) + item.raw_minimum


def question(method: Lime | KernelShap) -> dict[str, Tensor | int]:
    """The same question to captum."""
    picture = Superpixels.of(pictures(1)[0], method.segments, method.baseline)
    (hidden,) = picture.show(torch.zeros(1, picture.count, dtype=torch.bool))
    mask = picture.labels.expand(1, 1, 32, 32)
    return {"inputs": picture.image[None], "baselines": hidden[None], "feature_mask": mask, "target": TARGET}


@pytest.mark.parametrize("subject", ["residual", "vit"])
@pytest.mark.parametrize("baseline", ["superpixel_mean", "grey", "black"])
def test_shapley_values(subject: str, baseline: str) -> None:
    """captum's exact ones, from every order of the superpixels: equal but for float32."""
    attr = pytest.importorskip("captum.attr")
    method = KernelShap(segments=4, baseline=baseline)
    theirs = attr.ShapleyValues(probabilities(subject)).attribute(**question(method))
    np.testing.assert_allclose(ours(method, subject), theirs[0, 0], atol=1e-6)


def test_kernel_shap() -> None:
    """captum's own draws, 4000 of them, come as near to the exact values as such draws do: a tenth of the largest."""
    attr = pytest.importorskip("captum.attr")
    method = KernelShap(segments=12, samples=20000)
    torch.manual_seed(0)
    theirs = attr.KernelShap(probabilities("residual")).attribute(
        **question(method), n_samples=4000, perturbations_per_eval=50
    )[0, 0]
    exact = ours(method, "residual")
    np.testing.assert_allclose(exact, theirs, atol=exact.abs().max().item() / 10)


def test_lime() -> None:
    """captum's LIME with our distance and as many other samples: to a tenth of the largest coefficient."""
    attr = pytest.importorskip("captum.attr")
    linear_model = pytest.importorskip("captum._utils.models.linear_model")
    method = Lime(segments=12, samples=4000)

    def similarity(_original: Tensor, _perturbed: Tensor, coalition: Tensor, **_others: object) -> float:
        distance = 1 - coalition.float().mean().sqrt()
        return float(torch.exp(-(distance**2) / (2 * method.kernel_width**2)))

    torch.manual_seed(0)
    lime = attr.Lime(
        probabilities("residual"),
        interpretable_model=linear_model.SkLearnRidge(alpha=method.alpha),
        similarity_func=similarity,
    )
    theirs = lime.attribute(**question(method), n_samples=4000, perturbations_per_eval=50)[0, 0]
    mine = ours(method, "residual")
    np.testing.assert_allclose(mine, theirs, atol=mine.abs().max().item() / 10)
