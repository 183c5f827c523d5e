"""Maps as pictures."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from explainers import upsample
from handlers.preprocess import Affine
from handlers.render import Warped, color_table, map_png, overlay_png, render_size, warp
from tests.handlers.pictures import photograph


def opened(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data), formats=["PNG"]))


def test_warp_by_hand() -> None:
    """Two cells on four pixels: centres at 0.25, 0.75, 1.25, 1.75 of cells whose own centres are 0.5 and 1.5."""
    warped = warp(np.array([[0, 1]], np.float32), Affine(2.0, 0.0, 1.0, 0.0), (1, 4))
    assert warped.values.tolist() == [[0, 64, 191, 255]]
    assert (warped.top, warped.left) == (0, 0)


def test_warp_of_a_crop_by_hand() -> None:
    """The network saw the columns 1 to 3 of five; a pixel belongs to it when its centre does."""
    warped = warp(np.array([[0, 1, 0]], np.float32), Affine(1.0, 1.0, 1.0, 0.0), (1, 5))
    assert (warped.left, warped.values.tolist()) == (1, [[0, 255, 0]])
    assert opened(map_png(warped, (1, 5))).tolist() == [[0, 0, 255, 0, 0]]


def test_warp_onto_the_input_is_upsample() -> None:
    """One convention of interpolation in the whole project."""
    saliency = torch.rand(5, 7, generator=torch.Generator().manual_seed(0))
    expected = upsample(saliency, (60, 40)).numpy() * 255
    warped = warp(saliency.numpy(), Affine(40 / 7, 0.0, 60 / 5, 0.0), (60, 40))
    assert np.abs(warped.values - expected).max() <= 0.5 + 1e-3


def test_map_smaller_than_its_grid() -> None:
    """An image of one pixel under a grid of 7 x 7."""
    warped = warp(np.eye(7, dtype=np.float32), Affine(1 / 7, 0.0, 1 / 7, 0.0), (1, 1))
    assert warped.values.tolist() == [[255]]


def test_no_pixel_centre_on_the_map() -> None:
    """Nothing is drawn, and nothing fails."""
    warped = warp(np.ones((1, 1), np.float32), Affine(0.1, 0.0, 0.1, 0.0), (2, 2))
    assert warped.values.size == 0
    assert opened(map_png(warped, (2, 2))).tolist() == [[0, 0], [0, 0]]
    image = photograph(2, 2)
    assert (opened(overlay_png(image, warped, "viridis", 1.0)) == np.asarray(image)).all()


def test_overlay_outside_the_crop_is_the_image() -> None:
    """Colour only where the network looked."""
    image = photograph(10, 20)
    drawn = opened(overlay_png(image, Warped(np.full((10, 10), 255, np.uint8), 0, 5), "viridis", 0.5))
    original = np.asarray(image, int)
    assert (drawn[:, :5] == original[:, :5]).all()
    assert (drawn[:, 15:] == original[:, 15:]).all()
    expected = (original[:, 5:15] + color_table("viridis")[255].astype(int)) / 2
    assert np.abs(drawn[:, 5:15] - expected).max() <= 0.5


@pytest.mark.parametrize("name", ["viridis", "cividis", "inferno"])
def test_opacity(name: str) -> None:
    """0 is the image and 1 is the map, exactly."""
    image = photograph(16, 16)
    warped = Warped(np.arange(256, dtype=np.uint8).reshape(16, 16), 0, 0)
    assert (opened(overlay_png(image, warped, name, 0.0)) == np.asarray(image)).all()
    assert (opened(overlay_png(image, warped, name, 1.0)).reshape(256, 3) == color_table(name)).all()


def test_colours() -> None:
    """The published ends of viridis; every table grows lighter from end to end."""
    assert color_table("viridis")[[0, 255]].tolist() == [[68, 1, 84], [253, 231, 37]]
    for name in ("viridis", "cividis", "inferno"):
        assert color_table(name).dtype == np.uint8
        lightness = color_table(name) @ np.array([0.2126, 0.7152, 0.0722])
        assert (np.diff(lightness) > -1).all()
        assert lightness[-1] - lightness[0] > 150


def test_the_image_is_left_alone() -> None:
    """Several targets are drawn on the same one."""
    image = photograph(8, 8)
    before = image.tobytes()
    overlay_png(image, Warped(np.full((8, 8), 9, np.uint8), 0, 0), "viridis", 1.0)
    assert image.tobytes() == before


@pytest.mark.parametrize(
    ("size", "expected"),
    [((100, 200), (100, 200)), ((1024, 1024), (1024, 1024)), ((3000, 2000), (1024, 683)), ((1, 50_000), (1, 1024))],
)
def test_render_size(size: tuple[int, int], expected: tuple[int, int]) -> None:
    """Large images are drawn smaller, in proportion, and never to nothing."""
    assert render_size(*size, 1024) == expected
