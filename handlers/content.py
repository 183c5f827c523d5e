"""What an answer depends on in an image, as a digest: the service knows by it which images are the same."""

import hashlib
import struct

from PIL import Image
from torch import Tensor

_ROWS = 256  # at once: a copy of a few MB stays in the processor's cache, which makes it three times as fast as of all


def content_digest(image: Image.Image, pixels: Tensor, *, drawn: bool) -> bytes:
    """SHA-256 over what the answer to one image is made from, 32 bytes.

    What the network sees stands for the pixels, because it is small: 0.6 MB where the image of a camera has 36 MB.

    Args:
        image: mode RGB, upright. Its size counts always, its pixels only where they are `drawn`.
        pixels: what the network sees: shape (3, height, width), float32, contiguous.
        drawn: whether the answer shows the image itself.
    """
    found = hashlib.sha256(struct.pack("<?QQQQ", drawn, *image.size, *pixels.shape[1:]))
    found.update(pixels.numpy().data)
    if drawn:
        for top in range(0, image.height, _ROWS):
            found.update(image.crop((0, top, image.width, min(top + _ROWS, image.height))).tobytes())
    return found.digest()
