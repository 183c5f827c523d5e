"""TIBAV beyond the contract: its two sets of rules, its variants, and that it tells classes apart."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from explainers import Classes, InvalidParameterError, Network, Tibav, TopK, validate
from explainers.relevance import Published, Rules, Stable, divide
from explainers.vit_forward import classify, run_blocks
from explainers.vit_relevance import ClassPass
from model_store.digits.models import WEIGHTS_FOLDER, load_model
from model_store.digits.vit import DigitsViT
from tests.explainers import references, references_attention
from tests.explainers.networks import MEAN, STD, ViT, network, pictures, prepare

HALF = (0.5, 0.5, 0.5)
VARIANTS: list[dict[str, Any]] = [
    {},
    {"start_layer": 1},
    {"attention_for_gradient": True},
    {"last_block_only": True},
    {"start_layer": 1, "attention_for_gradient": True},
    {"last_block_only": True, "attention_for_gradient": True},
]


@pytest.mark.parametrize("rule", ["published", "stable"])
@pytest.mark.parametrize("variant", VARIANTS, ids=str)
def test_variants_agree_with_their_definitions(rule: str, variant: dict[str, Any]) -> None:
    """In float64 every variant is the reference's to rounding, for every class."""
    model = prepare(ViT(registers=2)).double()
    net = network(model)
    for image in pictures(2):
        result = Tibav(rule=rule, **variant).explain(net, image[None], [Classes(tuple(range(5)))])[0]
        inputs = references.normalised(image, MEAN, STD)
        transformer = references_attention.Transformer(model, inputs, references_attention.TORCH, heads=2)
        for item in result.explanations:
            raw = _map_of(references_attention.tibav(transformer, item.target, rule, **variant), 4)
            np.testing.assert_allclose(item.map, references.min_max(raw), atol=1e-5)
            np.testing.assert_allclose((item.raw_minimum, item.raw_maximum), (raw.min(), raw.max()), rtol=1e-5)


@pytest.mark.parametrize("rule", ["published", "stable"])
def test_digits_transformer_agrees_with_the_definition(rule: str) -> None:
    """The same on six blocks of three heads; "published" computes in float64 by itself."""
    model = prepare(DigitsViT(), (96, 96))
    net = Network(model, input_size=(96, 96), mean=HALF, std=HALF)
    image = pictures(1, (96, 96))
    item = Tibav(rule=rule).explain(net, image, [Classes((7,))])[0].explanations[0]
    inputs = references.normalised(image[0], HALF, HALF)
    transformer = references_attention.Transformer(model, inputs, references_attention.TIMM, heads=3)
    raw = _map_of(references_attention.tibav(transformer, 7, rule), 12)
    np.testing.assert_allclose(item.map, references.min_max(raw), atol=1e-4)


@pytest.mark.parametrize("rules", [Published(), Stable()], ids=["published", "stable"])
def test_relevance_is_conserved(rules: Rules) -> None:
    """What enters at the logit, 1, is found at the input of every block; stable relevances have one sign.

    It takes layers so wide that no sum is without a positive term: there relevance is lost by definition.
    """
    net = Network(prepare(DigitsViT(), (96, 96)).double(), input_size=(96, 96), mean=HALF, std=HALF)
    vit = net.transformer
    assert vit is not None
    passes = list(run_blocks(vit, net.tokens(pictures(3, (96, 96)), torch.float64)))
    normed, logits = classify(vit, passes[-1].output)
    seed = torch.eye(10, dtype=torch.float64)[:3]
    walk = ClassPass(vit, passes[-1], normed, logits, seed, rules)
    for done in reversed(passes):
        attention, _ = walk.attention(done)
        walk.descend()
        torch.testing.assert_close(walk.relevance.sum(dim=(1, 2)), torch.ones(3).double(), rtol=1e-4, atol=1e-4)
        if isinstance(rules, Stable):
            assert min(attention.min(), walk.relevance.min()) >= 0


def test_residual_rules_by_hand() -> None:
    """Two terms that nearly cancel, beside two that don't."""
    a, b = torch.tensor([[[3.0, 1.0]]]).double(), torch.tensor([[[-2.0, 1.0]]]).double()
    relevance = torch.tensor([[[1.0, 1.0]]]).double()
    # As published: shares (3, 0.5) and (-2, 0.5), whose sums 3.5 and -1.5 become 2 * 3.5 / 5 and 2 * 1.5 / 5.
    first, second = Published().residual(a, b, relevance)
    torch.testing.assert_close(first, torch.tensor([[[1.2, 0.2]]]).double())
    torch.testing.assert_close(second, torch.tensor([[[0.8, -0.2]]]).double())
    first, second = Stable().residual(a, b, relevance)
    torch.testing.assert_close(first, torch.tensor([[[0.6, 0.5]]]).double())
    torch.testing.assert_close(second, torch.tensor([[[0.4, 0.5]]]).double())


def test_quotient() -> None:
    """The stabiliser is added whatever the sign; nothing is handed on by a sum that is exactly 0."""
    found = divide(torch.ones(4).double(), torch.tensor([0.0, 1e-9, -3e-9, 2.0]).double())
    torch.testing.assert_close(found, torch.tensor([0.0, 5e8, -5e8, 0.5]).double())


def test_parameters() -> None:
    """A block that the network does not have is refused where the network is known, an unknown rule before."""
    net = network(prepare(ViT(registers=2)))
    assert Tibav(start_layer=1).target_layer(net) == "blocks.1"
    assert Tibav(last_block_only=True).target_layer(net) == "blocks.1"
    for attempt in (Tibav(start_layer=2).resolve, Tibav(start_layer=2).target_layer):
        with pytest.raises(InvalidParameterError, match="between 0 and 1"):
            attempt(net)
    for method in (Tibav(rule="fast"), Tibav(start_layer=-1)):
        with pytest.raises(InvalidParameterError):
            validate(method)


def test_targets_share_the_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many classes are asked for, the network runs once."""
    net = network(prepare(ViT(registers=2)))
    runs = []
    original = net.tokens
    monkeypatch.setattr(net, "tokens", lambda *arguments: runs.append(1) or original(*arguments))
    Tibav().explain(net, pictures(), [TopK(5)] * 3)
    assert len(runs) == 1


def test_tells_digits_apart() -> None:
    """On pictures with two digits the map of each has more of its energy on that digit, mostly."""
    pytest.importorskip("skimage", reason="the digits are drawn on photographs of scikit-image")
    if not (WEIGHTS_FOLDER / "digits_vit.safetensors").is_file():
        pytest.skip("the digits model has no weights here")
    from model_store.digits.samples import held_out_pairs

    net = Network(load_model("vit"), input_size=(96, 96), mean=HALF, std=HALF)
    wins = []
    for sample in held_out_pairs(16):
        image = torch.from_numpy(sample.image).permute(2, 0, 1)[None] / 255
        result = Tibav().explain(net, image, [Classes(tuple(int(label) for label in sample.labels))])[0]
        masks = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(np.stack(sample.masks)).float(), 12)
        first, second = ((item.map * masks).sum(dim=(1, 2)) for item in result.explanations)
        wins += [bool(first[0] > first[1]), bool(second[1] > second[0])]
    assert np.mean(wins) > 0.85


def _map_of(row: Tensor, side: int) -> references.Map:
    return references_attention.as_map(row, side, side)
