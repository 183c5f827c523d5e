"""Two images have the same digest when the answers to them are the same."""

import numpy as np
from PIL import Image

from handlers.content import content_digest

SEEN = Image.effect_noise((8, 8), 50).convert("RGB")


def image(height: int = 600, width: int = 20, changed: tuple[int, int] | None = None) -> Image.Image:
    pixels = np.zeros((height, width, 3), np.uint8)
    if changed is not None:
        pixels[changed] = 1
    return Image.fromarray(pixels)


def test_equal_images_have_equal_digests() -> None:
    """Of 32 bytes, drawn or not; the two kinds are never taken for each other."""
    plain, drawn = [content_digest(image(), SEEN, drawn=drawn) for drawn in (False, True)]
    assert len(plain) == 32
    assert plain == content_digest(image(), SEEN.copy(), drawn=False)
    assert drawn == content_digest(image(), SEEN.copy(), drawn=True)
    assert plain != drawn


def test_what_the_network_sees_and_the_images_size_count() -> None:
    """One pixel of the input, or another shape of an image with as many pixels."""
    other = SEEN.copy()
    red, green, blue = SEEN.getpixel((7, 7))
    other.putpixel((7, 7), (red, green, blue ^ 1))
    for drawn in (False, True):
        plain = content_digest(image(), SEEN, drawn=drawn)
        assert content_digest(image(), other, drawn=drawn) != plain
        assert content_digest(image(20, 600), SEEN, drawn=drawn) != plain


def test_every_pixel_of_a_drawn_image_counts() -> None:
    """Also the first and last of each part that is read at once; of one that is not drawn, none does."""
    for row in (0, 255, 256, 511, 512, 599):
        changed = image(changed=(row, 19))
        assert content_digest(changed, SEEN, drawn=True) != content_digest(image(), SEEN, drawn=True)
        assert content_digest(changed, SEEN, drawn=False) == content_digest(image(), SEEN, drawn=False)
