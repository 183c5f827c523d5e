"""Softmax and sigmoid heads."""

from typing import Any

import pytest
import torch

from explainers import METHODS, Activation, Classes, ExplainerError
from tests.explainers.binary import networks
from tests.explainers.networks import pictures

QUICK: dict[str, dict[str, Any]] = {
    "rise": {"samples": 40},
    "lime": {"samples": 40, "segments": 12},
    "kernel_shap": {"samples": 40, "segments": 12},
    "opti_cam": {"steps": 5},
    "extremal_perturbation": {"steps": 5},
    "ss_cam": {"samples": 3},
    "smooth_grad": {"samples": 3},
    "smooth_grad_cam_plus_plus": {"samples": 3},
    "integrated_gradients": {"steps": 5},
}


def test_probabilities() -> None:
    """Sigmoid looks at each class alone; softmax shares 1 between all."""
    logits = torch.tensor([[0.0, 2.0, -2.0]])
    assert Activation("sigmoid").probabilities(logits)[0].tolist() == pytest.approx([0.5, 0.880797, 0.119203], abs=1e-6)
    assert Activation("softmax").probabilities(logits)[0].tolist() == pytest.approx(
        [0.117310, 0.866814, 0.015876], abs=1e-6
    )


@pytest.mark.parametrize("activation", list(Activation))
def test_log_probabilities(activation: Activation) -> None:
    """They are the logarithms of the probabilities, and finite where those round to 0."""
    logits = torch.tensor([[0.3, 2.0, -3.0]]).double()
    torch.testing.assert_close(activation.log_probabilities(logits), activation.probabilities(logits).log())
    assert activation.log_probabilities(torch.tensor([[-2000.0, 0.0]]))[0, 0] == -2000


@pytest.mark.parametrize("name", sorted(METHODS))
def test_a_binary_head_is_explained_as_its_two_classes(name: str) -> None:
    """One logit z with a sigmoid is the class with logits 0 and z under a softmax: every method maps the same."""
    method = METHODS[name](**QUICK.get(name, {}))
    one, two = networks()
    try:
        method.resolve(two)
    except ExplainerError:
        with pytest.raises(ExplainerError):
            method.resolve(one)
        return
    images = pictures(2)
    ours, theirs = (method.explain(net, images, [Classes((index,))] * 2) for net, index in ((one, 0), (two, 1)))
    for mine, other in zip(ours, theirs, strict=True):
        a, b = mine.explanations[0], other.explanations[0]
        torch.testing.assert_close(a.map, b.map, atol=1e-3, rtol=0)
        assert (a.raw_minimum, a.raw_maximum) == pytest.approx((b.raw_minimum, b.raw_maximum), rel=1e-3, abs=1e-6)


def test_another_model_of_the_same_kind() -> None:
    """A randomised copy keeps the activation."""
    one, _ = networks()
    assert one.like(one._shadow).activation is Activation.SIGMOID
