"""Limits of a worker and how it computes, from the environment that TorchServe's Java process was started with."""

import os
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

PREFIX = "WHYLIGHT_"
# Pillow's own guard raises an error above this, whatever the limit here is.
PILLOW_MAX_PIXELS = 178_956_970


class Numbers(StrEnum):
    """What a GPU may compute in: whatever gives the same maps (`handlers.arithmetic`), or float32 alone."""

    AUTO = "auto"
    FLOAT32 = "float32"

    @classmethod
    def from_environment(cls) -> Self:
        """What WHYLIGHT_ARITHMETIC says, or AUTO.

        Raises:
            ValueError: it says something else.
        """
        text = os.environ.get(PREFIX + "ARITHMETIC") or cls.AUTO
        try:
            return cls(text)
        except ValueError:
            raise ValueError(f"{PREFIX}ARITHMETIC must be {' or '.join(cls)}") from None


@dataclass(frozen=True)
class Limits:
    """What one request may cost.

    Attributes:
        max_image_bytes: largest encoded image.
        max_pixels: largest image, width times height, checked before it is decoded.
        max_render_side: PNGs of larger images are scaled down to this length of the longer side. With the default an
            overlay of any image fits into the 4 MB that a gRPC client takes unless told otherwise.
        max_response_bytes: larger answers are refused. TorchServe kills the worker over an answer above its
            `max_response_size`, so this must not be larger than that.
        threads: most threads of torch; None: the model's own choice, or torch's.
    """

    max_image_bytes: int = 256 * 2**20
    max_pixels: int = 50_000_000
    max_render_side: int = 1024
    max_response_bytes: int = 6_553_500
    threads: int | None = None

    @classmethod
    def from_environment(cls) -> Self:
        """Defaults, but for what WHYLIGHT_MAX_PIXELS, WHYLIGHT_THREADS and so on say.

        Raises:
            ValueError: a variable is not a positive whole number, or more pixels are allowed than Pillow decodes.
        """
        given = {name: _positive(PREFIX + name.upper()) for name in cls.__dataclass_fields__}
        limits = cls(**{name: value for name, value in given.items() if value is not None})
        if limits.max_pixels > PILLOW_MAX_PIXELS:
            raise ValueError(f"{PREFIX}MAX_PIXELS must be at most {PILLOW_MAX_PIXELS}")
        return limits

    def threads_for(self, wish: int | None) -> int | None:
        """How many threads torch gets for a model that wants so many; None: torch decides."""
        return min((number for number in (self.threads, wish) if number is not None), default=None)


def _positive(variable: str) -> int | None:
    text = os.environ.get(variable, "")
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise ValueError(f"{variable} must be a positive whole number")
    return int(text)
