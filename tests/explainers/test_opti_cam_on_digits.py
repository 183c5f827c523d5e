"""Why Opti-CAM is not first in average gain on two digits: docs/benchmarks/evaluation.md rests on this."""

import pytest
import torch

from explainers import Classes, Network, OptiCam, ScoreCam, upsample
from explainers.masking import masked_logits, min_max
from model_store.digits.data import samples
from model_store.digits.models import load_model

HALF = (0.5, 0.5, 0.5)


@pytest.fixture(scope="module")
def moves() -> dict[str, tuple[float, float]]:
    """On a photograph with a 9 and a 0: how much each map of the 0, laid on it, moves the logits of both digits."""
    (sample,) = samples("held_out", 1, 0, digits=2)
    other, own = map(int, sample.labels)
    image = torch.from_numpy(sample.image).permute(2, 0, 1)[None].float() / 255
    network = Network(load_model("cnn"), input_size=(96, 96), mean=HALF, std=HALF)
    before = network.predict(image)[0]
    found = {}
    for name, method in {"published": OptiCam(), "fast": OptiCam(preset="fast"), "score_cam": ScoreCam()}.items():
        (result,) = method.explain(network, image, [Classes((own,))])
        mask = min_max(upsample(result.explanations[0].map, (96, 96))[None])
        with torch.no_grad():
            moved = masked_logits(network, image, mask)[0] - before
        found[name] = moved[own].item(), moved[other].item()
    return found


def test_the_published_climb_ends_on_a_lower_peak_of_its_own_objective(moves: dict[str, tuple[float, float]]) -> None:
    """Larger steps reach a logit that is far higher, and so does Score-CAM, whose map is a mixture like Opti-CAM's."""
    assert moves["published"][0] < 0.5
    assert moves["score_cam"][0] > 1.5
    assert moves["fast"][0] > moves["score_cam"][0]


def test_on_that_peak_the_mask_shows_both_digits(moves: dict[str, tuple[float, float]]) -> None:
    """The logit of the other digit stays too, so that the probability does not rise; the higher peak hides it."""
    assert moves["published"][1] > -0.5
    assert moves["fast"][1] < -2
