"""Maps in colour over their images."""

import functools
from importlib import resources
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from whylight_client.maps import SaliencyMap

ColorMap: TypeAlias = Literal["viridis", "cividis", "inferno"]
COLOR_MAPS: tuple[ColorMap, ...] = ("viridis", "cividis", "inferno")
TABLE = "color_maps.png"  # one row for each of COLOR_MAPS, one column for each grey value


def overlay(image: Image.Image, saliency: SaliencyMap, color_map: ColorMap, opacity: float) -> Image.Image:
    """The image with the map in colour over it.

    Where the network saw nothing the image stays as it is, and all of it where the map is degenerate.

    Args:
        image: upright, mode RGB.
        saliency: the map.
        color_map: perceptually uniform colours, from dark (0) to bright (1).
        opacity: weight of the colours, 0 (only the image) to 1 (only the map).

    Raises:
        ValueError: no such colours, or no such opacity.
    """
    if not 0 <= opacity <= 1:
        raise ValueError(f"the opacity lies in [0, 1], and is not {opacity}")
    colours = color_table(color_map)
    drawn = image.copy()
    if saliency.degenerate:
        return drawn
    rows, columns = saliency.seen(image.height, image.width)
    grey = (saliency.on_image(image.height, image.width)[rows, columns] * 255 + 0.5).astype(np.uint8)
    box = (columns.start, rows.start, columns.stop, rows.stop)
    drawn.paste(Image.blend(image.crop(box), Image.fromarray(colours[grey]), opacity), box)
    return drawn


@functools.cache
def color_table(name: ColorMap) -> NDArray[np.uint8]:
    """The RGB colour of each grey value: shape (256, 3), read-only.

    Raises:
        ValueError: no such colours.
    """
    if name not in COLOR_MAPS:
        raise ValueError(f"no colours {name!r}; there are: {', '.join(COLOR_MAPS)}")
    with resources.files("whylight_client").joinpath(TABLE).open("rb") as file, Image.open(file) as table:
        colours: NDArray[np.uint8] = np.array(table.convert("RGB"))[COLOR_MAPS.index(name)]
    colours.flags.writeable = False
    return colours
