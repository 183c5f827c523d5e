"""The built-in data: held-out photographs with two handwritten digits, or one, and their exact masks and boxes."""

from collections.abc import Iterator

from evaluation.errors import UsageError
from evaluation.items import ArrayMask, Item, Region
from evaluation.names import ClassNames

DIGITS = {"digits": 2, "digits-single": 1}
"""Name of the data to the number of digits in each image."""
COUNT = 200


def read_digits(name: str, names: ClassNames, count: int, seed: int) -> Iterator[Item]:
    """`count` images that no default model saw in training; the i-th depends on the seed and i only.

    Raises:
        UsageError: what the images are made of is not installed, or the model does not read digits.
    """
    try:
        from model_store.digits.data import samples
    except ModuleNotFoundError as error:
        raise UsageError(
            f"the digits are made with {error.name}, which is not installed: pip install 'whylight[train]'"
        ) from None
    classes = [names.find(str(digit)) for digit in range(10)]
    if not all(label in names.labels or label in names.mapping for label in map(str, range(10))):
        raise UsageError("this model has no classes 0 to 9: it can't be evaluated on the digits")
    for index, sample in enumerate(samples("held_out", count, seed, digits=DIGITS[name])):
        regions = tuple(
            Region(classes[label], (box,), ArrayMask(mask))
            for label, box, mask in zip(sample.labels, sample.boxes, sample.masks, strict=True)
        )
        yield Item(
            f"{name}-{seed}-{index:05d}", sample.image, tuple(classes[label] for label in sample.labels), regions
        )
