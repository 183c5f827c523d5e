"""Targets to class indices."""

import pytest
import torch

from explainers import Classes, InvalidTargetError, TopK
from explainers.targets import resolve

LOGITS = torch.tensor([[1.0, 3.0, 2.0], [5.0, 5.0, 4.0]])


def test_top_k() -> None:
    """Largest first, the lower index first among equals, cut to the number of classes."""
    assert resolve([TopK(2), TopK(9)], LOGITS) == [(1, 2), (0, 1, 2)]


def test_classes_keep_their_order() -> None:
    """Named classes come as asked for, repeated where asked so."""
    assert resolve([Classes((2, 0, 2)), Classes(())], LOGITS) == [(2, 0, 2), ()]


@pytest.mark.parametrize("index", [-1, 3])
def test_outside(index: int) -> None:
    """An index that is no class is refused with the range."""
    with pytest.raises(InvalidTargetError, match="between 0 and 2"):
        resolve([TopK(), Classes((index,))], LOGITS)


def test_one_entry_for_each_image() -> None:
    """Another number of targets than images is a mistake of the caller."""
    with pytest.raises(ValueError, match="1 targets for 2 images"):
        resolve([TopK()], LOGITS)
