"""From an image to the network's input, and from coordinates of a map back to pixels."""

import time

import numpy as np
import pytest
import torch
from PIL import Image

from handlers.preprocess import Affine, Geometry, geometry, to_input
from model_store.schema import Preprocessing
from tests.handlers.pictures import photograph
from tests.real import MODELS, photographs, require_real

ZERO, ONE = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def squash(*size: int, interpolation: str = "bilinear") -> Preprocessing:
    return Preprocessing(size=size, interpolation=interpolation, mean=ZERO, std=ONE)


def crop(short_side: int, *size: int, interpolation: str = "bilinear") -> Preprocessing:
    return Preprocessing(
        size=size, resize="crop", short_side=short_side, interpolation=interpolation, mean=ZERO, std=ONE
    )


def tensor(image: Image.Image, preprocessing: Preprocessing) -> torch.Tensor:
    return to_input(image, geometry((image.height, image.width), preprocessing), preprocessing)


def test_squash_by_hand() -> None:
    """The corners of the input are the corners of the image."""
    plan = geometry((300, 400), squash(100, 200))
    assert plan == Geometry(resized=(100, 200), top=0, left=0, size=(100, 200))
    assert plan.to_image((300, 400)) == Affine(scale_x=2.0, offset_x=0.0, scale_y=3.0, offset_y=0.0)


def test_crop_of_a_landscape_by_hand() -> None:
    """400 x 200 becomes 200 x 100; the middle 80 x 80 begins at (60, 10), which is (120, 20) in the image."""
    plan = geometry((200, 400), crop(100, 80, 80))
    assert plan == Geometry(resized=(100, 200), top=10, left=60, size=(80, 80))
    assert plan.to_image((200, 400)) == Affine(scale_x=2.0, offset_x=120.0, scale_y=2.0, offset_y=20.0)


def test_crop_of_a_portrait_by_hand() -> None:
    """333 x 500 becomes 256 x int(256 * 500 / 333) = 384, which is not quite in proportion."""
    plan = geometry((500, 333), crop(256, 224, 224))
    assert plan == Geometry(resized=(384, 256), top=80, left=16, size=(224, 224))
    way = plan.to_image((500, 333))
    assert (way.scale_x, way.scale_y) == (333 / 256, 500 / 384)
    assert (way.offset_x, way.offset_y) == pytest.approx((16 * 333 / 256, 80 * 500 / 384))


def test_halves_round_to_even_as_in_torchvision() -> None:
    """CenterCrop uses Python's round: 2.5 becomes 2."""
    assert geometry((229, 229), crop(229, 224, 224)).top == 2
    assert geometry((231, 231), crop(231, 224, 224)).top == 4


def test_grid_by_hand() -> None:
    """A 4 x 8 grid on a 100 x 200 input: a cell is 25 rows by 25 columns of it, 75 by 50 pixels of the image."""
    to_image = geometry((300, 400), squash(100, 200)).to_image((300, 400))
    assert to_image.after_grid((4, 8), (100, 200)) == Affine(50.0, 0.0, 75.0, 0.0)
    cropped = geometry((200, 400), crop(100, 80, 80)).to_image((200, 400))
    assert cropped.after_grid((7, 7), (80, 80)) == Affine(160 / 7, 120.0, 160 / 7, 20.0)
    assert cropped.after_grid((80, 80), (80, 80)) == cropped


def test_a_spot_is_found_again() -> None:
    """The brightest pixel of the input, sent through the affine map, lies on the white spot of the image."""
    for preprocessing in (squash(64, 96), crop(80, 64, 64), crop(64, 48, 64)):
        image = Image.new("RGB", (500, 300))
        image.paste((255, 255, 255), (245, 140, 261, 156))
        plan = geometry((300, 500), preprocessing)
        grey = to_input(image, plan, preprocessing)[0]
        row, column = divmod(int(grey.argmax()), grey.shape[1])
        way = plan.to_image((300, 500))
        x, y = way.scale_x * (column + 0.5) + way.offset_x, way.scale_y * (row + 0.5) + way.offset_y
        assert 245 <= x <= 261
        assert 140 <= y <= 156


def test_values() -> None:
    """Float32 in [0, 1], colour first."""
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, 1] = (255, 51, 0)
    result = tensor(Image.fromarray(pixels), squash(2, 2))
    assert (result.dtype, tuple(result.shape)) == (torch.float32, (3, 2, 2))
    assert result.is_contiguous()
    assert result[:, 0, 1].tolist() == pytest.approx([1.0, 0.2, 0.0])
    assert result[:, 0, 0].tolist() == [0.0, 0.0, 0.0]


@pytest.mark.parametrize(("width", "height"), [(1, 50_000), (50_000, 1), (3, 20_000), (1, 1), (2, 3)])
@pytest.mark.parametrize("preprocessing", [squash(224, 224), crop(256, 224, 224), crop(256, 224, 192)])
def test_absurd_proportions(width: int, height: int, preprocessing: Preprocessing) -> None:
    """Neither crashes nor takes a resized image of gigabytes; all of the image's own colour."""
    started = time.perf_counter()
    result = tensor(Image.new("RGB", (width, height), (255, 51, 0)), preprocessing)
    assert tuple(result.shape) == (3, *preprocessing.size)
    assert (result - torch.tensor([1.0, 0.2, 0.0]).view(3, 1, 1)).abs().max() < 1e-6
    assert time.perf_counter() - started < 5


def test_shortcut_for_strips_agrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cutting before resizing is the same but for rounding."""
    image = photograph(40, 900)
    expected = tensor(image, crop(64, 48, 64))
    monkeypatch.setattr("handlers.preprocess._MAX_RESIZED_PIXELS", 0)
    assert (tensor(image, crop(64, 48, 64)) - expected).abs().max() <= 3 / 255


@pytest.mark.oracle
def test_equals_torchvision() -> None:
    """Bit by bit, for images of any proportions."""
    _require_torchvision()
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize, ToTensor

    generator = np.random.default_rng(0)
    for seed in range(60):
        image = photograph(*generator.integers(20, 700, 2).tolist(), seed)
        interpolation = str(generator.choice(["bilinear", "bicubic"]))
        size = tuple(generator.choice([48, 63, 224], 2).tolist())
        short_side = max(size) + int(generator.integers(0, 30))
        mode = InterpolationMode(interpolation)
        cropped = Compose([Resize(short_side, mode), CenterCrop(size), ToTensor()])(image)
        squashed = Compose([Resize(size, mode), ToTensor()])(image)
        assert torch.equal(tensor(image, crop(short_side, *size, interpolation=interpolation)), cropped)
        assert torch.equal(tensor(image, squash(*size, interpolation=interpolation)), squashed)


def _require_torchvision() -> None:
    from handlers.torchvision_shim import ensure_operators

    try:
        ensure_operators()
    except ImportError:
        pytest.skip("torchvision is not installed")


@pytest.mark.real
@pytest.mark.parametrize("name", MODELS)
def test_equals_the_real_networks_own_pipeline(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What their README measured their accuracy with."""
    monkeypatch.syspath_prepend(require_real())
    from architectures import pixels

    model, _, side, interpolation, _, _ = MODELS[name]
    for path in photographs()[:5]:
        image = Image.open(path).convert("RGB")
        assert torch.equal(tensor(image, squash(side, side, interpolation=interpolation)), pixels(model, image))
