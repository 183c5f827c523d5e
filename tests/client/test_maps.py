"""Maps from the wire to arrays, to the pixels of the image, and to colours."""

import numpy as np
import pytest
from PIL import Image

from handlers.preprocess import Affine
from handlers.render import color_table as colours_of_worker
from handlers.render import overlay_png, warp
from protos.explain.v1 import types_pb2
from service.converters.saliency import quantise
from tests.client.answers import GRID, HEIGHT, LEFT, SIDE, TOP, WIDTH, picture, saliency
from whylight_client.drawing import COLOR_MAPS, color_table, overlay
from whylight_client.images import decode
from whylight_client.maps import to_map


def test_a_map_of_the_wire_becomes_a_read_only_array() -> None:
    """float32 of the native grid, with its raw range only at full precision."""
    made = to_map(saliency(), precise=True)
    np.testing.assert_array_equal(made.values, GRID)
    assert made.values.dtype == np.float32
    assert made.raw_range == (-3, 7)
    assert to_map(saliency(), precise=False).raw_range is None
    with pytest.raises(ValueError, match="read-only"):
        made.values[0, 0] = 1


@pytest.mark.parametrize(
    ("data_type", "largest"), [(types_pb2.DATA_TYPE_UINT8, 255), (types_pb2.DATA_TYPE_UINT16, 65535)]
)
def test_integers_are_shares_of_the_range(data_type: types_pb2.DataType, largest: int) -> None:
    """As the service rounds them, to the nearest step."""
    message = saliency()
    quantise(message, data_type)
    np.testing.assert_allclose(to_map(message, precise=False).values, np.rint(GRID * largest) / largest, atol=1e-7)


@pytest.mark.parametrize("change", [{"values": {"data_type": 9}}, {"map_to_image": {"xy": 1}}])
def test_what_is_not_known_is_refused(change: dict) -> None:
    """A newer service may send what this client cannot read: it says so."""
    message = saliency()
    message.MergeFrom(types_pb2.SaliencyMap(**change))
    with pytest.raises(ValueError, match="newer"):
        to_map(message, precise=True)


def test_the_map_lies_where_the_network_looked() -> None:
    """Each pixel by its own bilinear sum, and 0 outside of the crop."""
    values = to_map(saliency(), precise=True).on_image(HEIGHT, WIDTH)
    assert values.shape == (HEIGHT, WIDTH)
    for row in range(HEIGHT):
        for column in range(WIDTH):
            y, x = (row + 0.5 - TOP) / (SIDE / 2), (column + 0.5 - LEFT) / (SIDE / 2)
            expected = 0.0
            if 0 <= y < 2 and 0 <= x < 2:
                down, right = min(max(y - 0.5, 0), 1), min(max(x - 0.5, 0), 1)
                expected = (
                    GRID[0, 0] * (1 - down) * (1 - right) + GRID[0, 1] * (1 - down) * right
                    + GRID[1, 0] * down * (1 - right) + GRID[1, 1] * down * right
                )  # fmt: skip
            assert values[row, column] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", COLOR_MAPS)
def test_the_colours_are_the_services(name: str) -> None:
    """The client draws without matplotlib, with the same table."""
    np.testing.assert_array_equal(color_table(name), colours_of_worker(name))  # type: ignore[arg-type]


@pytest.mark.parametrize("opacity", [0.0, 0.3, 1.0])
def test_the_overlay_is_the_services(opacity: float) -> None:
    """Pixel by pixel, at most one step of 255 apart for rounding; the surroundings of a crop are untouched."""
    made = np.asarray(overlay(picture(), to_map(saliency(), precise=True), "inferno", opacity), np.int16)
    place = Affine(SIDE / 2, LEFT, SIDE / 2, TOP)
    theirs = decode(overlay_png(picture(), warp(GRID, place, (HEIGHT, WIDTH)), "inferno", opacity))
    assert np.abs(made - np.asarray(theirs, np.int16)).max() <= 1
    outside = np.ones((HEIGHT, WIDTH), bool)
    outside[TOP : TOP + SIDE, LEFT : LEFT + SIDE] = False
    np.testing.assert_array_equal(made[outside], np.asarray(picture())[outside])


def test_a_degenerate_map_is_not_drawn() -> None:
    """It says nothing: the image comes back as it is."""
    message = saliency()
    message.degenerate = True
    drawn = overlay(picture(), to_map(message, precise=True), "viridis", 1.0)
    np.testing.assert_array_equal(np.asarray(drawn), np.asarray(picture()))


def test_wrong_colours_and_opacities_are_refused() -> None:
    """With what there is."""
    made = to_map(saliency(), precise=True)
    with pytest.raises(ValueError, match="viridis, cividis, inferno"):
        overlay(Image.new("RGB", (4, 4)), made, "jet", 0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[0, 1\]"):
        overlay(Image.new("RGB", (4, 4)), made, "viridis", 1.5)
