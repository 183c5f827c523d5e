"""The default models: shapes, the committed weights, and what they reach on held-out images."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from model_store.digits.cnn import DigitsCNN
from model_store.digits.data import DEFAULT_SIDE, Sample, samples
from model_store.digits.evaluate import Accuracy, logits_of, measure
from model_store.digits.models import MODELS, WEIGHTS_FOLDER, load_model, normalise
from model_store.digits.samples import CHOICES, SAMPLES_FOLDER, picture
from model_store.digits.train import learning_rate_factor, patch_classes, shrink, target_mass
from model_store.digits.vit import Attention, DigitsViT

IMAGES = torch.linspace(-1.0, 1.0, 2 * 3 * 96 * 96).reshape(2, 3, 96, 96)

# Somewhat below what the model card states.
FLOOR = Accuracy(single=0.96, pair_both=0.90, pair_either=0.97)


@pytest.fixture(scope="module")
def held_out() -> tuple[list[Sample], list[Sample]]:
    """Held-out images of one digit, and of two."""
    return list(samples("held_out", 300, seed=77, digits=1)), list(samples("held_out", 100, seed=77, digits=2))


@pytest.mark.parametrize("name", MODELS)
def test_committed_weights_load_strictly_and_reach_the_floor(
    name: str, held_out: tuple[list[Sample], list[Sample]]
) -> None:
    """Loaded without a missing or an unknown tensor, each model keeps about the accuracy that its card states."""
    accuracy = measure(load_model(name), *held_out)
    assert accuracy.single >= FLOOR.single
    assert accuracy.pair_both >= FLOOR.pair_both
    assert accuracy.pair_either >= FLOOR.pair_either


@pytest.mark.parametrize("name", MODELS)
def test_a_model_in_eval_mode_treats_each_image_alone(name: str) -> None:
    """An image's logits do not depend on its neighbours in the batch."""
    model = load_model(name)
    with torch.inference_mode():
        assert torch.allclose(model(IMAGES)[1:], model(IMAGES[1:]), atol=1e-4)


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("name", MODELS)
def test_the_number_of_classes_is_free(name: str, classes: int) -> None:
    """A fresh model of any number of classes gives one finite logit for each."""
    logits = MODELS[name](classes).eval()(IMAGES)
    assert logits.shape == (2, classes)
    assert logits.isfinite().all()


def test_the_head_of_the_cnn_averages_a_map_of_12_by_12() -> None:
    """The logits are the mean over the last map of its linear head: what exact class activation maps rest on."""
    model = DigitsCNN().eval()
    features = model.forward_features(IMAGES)
    assert features.shape == (2, 96, 12, 12)
    assert torch.allclose(model(IMAGES), model.head(features.mean(dim=(2, 3))), atol=1e-5)


def test_no_activation_of_the_cnn_works_in_place() -> None:
    """What a recorder keeps of a layer is not overwritten by the next."""
    assert not any(module.inplace for module in DigitsCNN().modules() if isinstance(module, nn.ReLU))


def test_attention_rows_sum_to_one_where_a_hook_sees_them() -> None:
    """`attn_drop` of each block passes on softmax attention over 1 + 144 tokens."""
    model, seen = DigitsViT().eval(), list[Tensor]()
    for module in model.modules():
        if isinstance(module, Attention):
            module.attn_drop.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    model(IMAGES)
    assert [attention.shape for attention in seen] == [(2, 3, 145, 145)] * 6
    assert all(torch.allclose(attention.sum(-1), torch.ones(2, 3, 145), atol=1e-5) for attention in seen)


def test_attention_agrees_with_torch() -> None:
    """The attention that is written out computes what torch's own does from the same queries, keys and values."""
    attention, tokens = Attention(96, num_heads=3), torch.randn(2, 145, 96, generator=torch.Generator().manual_seed(0))
    q, k, v = (part.reshape(2, 145, 3, 32).transpose(1, 2) for part in attention.qkv(tokens).chunk(3, dim=-1))
    expected = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 145, 96)
    assert torch.allclose(attention(tokens), attention.proj(expected), atol=1e-5)


def test_weights_are_small_float32_files() -> None:
    """The committed files stay below 4 MB each, and floating tensors in them are float32."""
    for name in MODELS:
        assert (WEIGHTS_FOLDER / f"digits_{name}.safetensors").stat().st_size < 4_000_000
        floating = [tensor for tensor in load_model(name).state_dict().values() if tensor.is_floating_point()]
        assert {tensor.dtype for tensor in floating} == {torch.float32}


def test_normalisation_maps_bytes_to_minus_one_and_one() -> None:
    """Black is -1, white is +1, and channels come first."""
    pixels = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    pixels[..., 2] = 255
    assert normalise(pixels)[0, :, 0, 0].tolist() == [-1.0, -1.0, 1.0]


def test_target_mass_is_halved_between_two_digits() -> None:
    """Each of two digits gets half of the mass, a single one gets it all."""
    pair, single = next(samples("train", 1, 0, digits=2)), next(samples("train", 1, 0, digits=1))
    assert sorted(target_mass(pair).tolist())[-3:] == [0.0, 0.5, 0.5]
    assert target_mass(single)[single.labels[0]] == target_mass(single).sum() == 1.0


def test_patches_are_given_the_digit_that_covers_them() -> None:
    """A patch covered by a quarter or more has that digit's class, at any resolution, and all others have none."""
    masks = np.zeros((1, 24, 24), dtype=bool)
    masks[0, 4, 6] = True  # one of the four pixels of the patch in row 2, column 3
    image = np.zeros((24, 24, 3), dtype=np.uint8)
    classes = patch_classes(Sample(image, image, (7,), masks, ((6, 4, 7, 5),), "brick.png"))
    assert classes[2 * 12 + 3] == 7
    assert (np.delete(classes, 2 * 12 + 3) == -100).all()


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    """The schedule starts and ends at zero and peaks where the warm-up ends."""
    factors = [learning_rate_factor(progress / 100) for progress in range(101)]
    assert factors[0] == 0.0
    assert factors[-1] == pytest.approx(0.0)
    assert max(factors) == factors[3] == 1.0
    assert all(0.0 <= factor <= 1.0 for factor in factors)


def test_committed_pictures_are_those_that_the_script_makes() -> None:
    """Labels, boxes and masks on disk are those of the samples; the JPEG differs from them by its compression only."""
    entries = json.loads((SAMPLES_FOLDER / "samples.json").read_text(encoding="utf-8"))
    assert len(entries) == len(CHOICES) == 6
    for entry, choice in zip(entries, CHOICES, strict=True):
        sample = picture(choice)
        assert entry["labels"] == list(sample.labels)
        assert entry["boxes"] == [list(box) for box in sample.boxes]
        image = np.asarray(Image.open(SAMPLES_FOLDER / entry["image"]))
        assert np.abs(image.astype(int) - sample.image).mean() < 3
        for file, mask in zip(entry["masks"], sample.masks, strict=True):
            assert np.array_equal(np.asarray(Image.open(SAMPLES_FOLDER / file)), mask)


@pytest.mark.parametrize("name", MODELS)
def test_committed_pictures_are_recognised(name: str) -> None:
    """Shrunk to the input's side, each demo picture's highest classes are exactly its digits."""
    made = [picture(choice) for choice in CHOICES]
    pixels = torch.from_numpy(np.stack([shrink(sample.image, DEFAULT_SIDE) for sample in made]))
    with torch.inference_mode():
        logits = load_model(name)(normalise(pixels))
    for row, sample in zip(logits, made, strict=True):
        assert set(row.topk(len(sample.labels)).indices.tolist()) == set(sample.labels)


def test_logits_come_in_the_order_of_the_images() -> None:
    """Evaluation in batches keeps the order, also beyond the first batch."""
    images = list(samples("held_out", 130, seed=1))
    model = load_model("cnn")
    assert torch.allclose(logits_of(model, images)[-1:], logits_of(model, images[-1:]), atol=1e-4)
