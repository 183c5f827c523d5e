"""Which shapes are spatial maps, and how they become grids."""

import pytest
import torch

from explainers.grid import GridFinder, Layout


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((2, 512, 7, 7), Layout("channels_first", 512, 7, 7)),
        ((2, 7, 7, 512), Layout("channels_last", 512, 7, 7)),
        ((2, 64, 56, 56), Layout("channels_first", 64, 56, 56)),
        ((2, 49, 192), Layout("tokens", 192, 7, 7, 0)),
        ((2, 197, 192), Layout("tokens", 192, 14, 14, 1)),
        ((2, 201, 192), Layout("tokens", 192, 14, 14, 5)),
        ((2, 3, 197, 197), None),
        ((2, 1024, 1, 1), None),
        ((2, 1000), None),
        ((2, 512), None),
        ((2, 1, 192), None),
    ],
)
def test_layout(shape: tuple[int, ...], expected: Layout | None) -> None:
    """Shapes are read by the sizes that the network's convolutions have."""
    assert GridFinder((224, 224), [(112, 112), (56, 56), (14, 14)]).layout(shape) == expected


def test_size_of_a_convolution_wins() -> None:
    """A patch embedding's own grid is preferred to one that needs fewer prefix tokens."""
    finder = GridFinder((128, 256), [(8, 16)])
    assert finder.layout((2, 8 * 16 + 9, 32)) == Layout("tokens", 32, 8, 16, 9)


def test_without_convolutions() -> None:
    """Patches that a linear layer embeds are found as a whole division of the input."""
    assert GridFinder((64, 32), []).layout((2, 33, 24)) == Layout("tokens", 24, 8, 4, 1)


def test_grid_of_tokens() -> None:
    """Tokens are laid out row by row after the prefix."""
    tokens = torch.arange(8.0).view(1, 8, 1)
    grid = Layout("tokens", 1, 2, 3, 2).grid(tokens)
    assert grid.tolist() == [[[[2, 3, 4], [5, 6, 7]]]]
    assert grid.data_ptr() == tokens[:, 2:].data_ptr()


def test_grid_of_channels_last() -> None:
    """Channels move to the front."""
    assert Layout("channels_last", 5, 2, 3).grid(torch.zeros(4, 2, 3, 5)).shape == (4, 5, 2, 3)
