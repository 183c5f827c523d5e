"""Parts of a network that another library computes."""

from torch import nn

from explainers.grid import Size

REFUSAL = "a part of the network is not computed by torch: nothing can be followed back through it"


class Opaque(nn.Module):
    """A module of which torch sees the output, but no operation, no weight and no gradient.

    Its output is a plain tensor: what needs a gradient with respect to anything before it is not applicable. Any number
    of threads may run it, and copies of it may share what they run.

    Attributes:
        convolution_sizes: (height, width) of the outputs of its convolutions, in order. Where there are some, a spatial
            map that it returns is taken for what the last one's map has become.
    """

    def __init__(self, convolution_sizes: tuple[Size, ...] = ()) -> None:
        super().__init__()
        self.convolution_sizes = convolution_sizes


def has_opaque_part(network: nn.Module) -> bool:
    """Whether another library computes a part of a network."""
    return any(isinstance(module, Opaque) for module in network.modules())
