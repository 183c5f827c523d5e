"""Which layer is explained, and which can be."""

import pytest
import torch
from torch import Tensor, nn

from explainers import NotApplicableError, UnknownLayerError
from tests.explainers.cases import SUBJECTS, network_of
from tests.explainers.networks import ChannelsLast, ResidualCnn, ViT, network, pictures, prepare


class Concatenating(nn.Module):
    """As DenseNet: the last convolution only makes a part of the map that is pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.second = nn.Conv2d(6, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(10)
        self.head = nn.Linear(10, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        return self.head(self.norm(torch.cat([x, self.second(torch.relu(x))], dim=1)).mean(dim=(2, 3)))


class Gated(nn.Module):
    """As EfficientNet: squeeze and excitation convolve a single cell."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(3, 6, 3, stride=2, padding=1)
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 6, 1), nn.Sigmoid())
        self.act = nn.SiLU()
        self.final = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 8, 1), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return self.head(self.final(self.act(x * self.gate(x))))


class ConvNeXt(nn.Module):
    """Normalises with channels last inside a block of channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 7, 4, stride=4)
        self.block = ConvNeXtBlock()
        self.head = nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.block(self.stem(x)).mean(dim=(2, 3)))


class ConvNeXtBlock(nn.Module):
    """One of its blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(7, 7, 3, padding=1, groups=7)
        self.norm = nn.LayerNorm(7)
        self.mlp = nn.Linear(7, 7)

    def forward(self, x: Tensor) -> Tensor:
        y = self.mlp(self.norm(self.depthwise(x).permute(0, 2, 3, 1)))
        return x + y.permute(0, 3, 1, 2)


class FunctionalConvolution(nn.Module):
    """No module is a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.zeros(6, 3, 3, 3))
        self.head = nn.Linear(6, 5)
        self.body = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(nn.functional.conv2d(x, self.kernel, stride=2)).mean(dim=(2, 3)))


class Tuples(ResidualCnn):
    """A stage that returns two maps at once."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = Pair()

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.pair(self.stage(torch.relu(self.stem(x))))
        return self.head(self.pool(a + b).flatten(1))


class Pair(nn.Module):
    """Returns its input twice."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, 2 * x


class AttentionMatrix(ViT):
    """Shows its attention matrix, whose two last dimensions are no image."""

    def __init__(self) -> None:
        super().__init__()
        self.show = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patch(x).flatten(2).transpose(1, 2)
        matrix = self.show((tokens @ tokens.transpose(1, 2)).softmax(dim=-1)[:, None].expand(-1, 2, -1, -1))
        return self.head(self.norm(matrix[:, 0] @ tokens).mean(dim=1))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_detected_layer_of_the_subjects(subject: str) -> None:
    """The last feature map before the classifier, after its ReLU and before its pooling; for ViT the last norm1."""
    assert network_of(subject).target_layer.path == SUBJECTS[subject].layer


@pytest.mark.parametrize(
    ("model", "layer"),
    [
        (Concatenating(), "norm"),
        (Gated(), "act"),
        (ConvNeXt(), "block"),
        (ChannelsLast(), "norm"),
        (Tuples(), "stage.1"),
        (AttentionMatrix(), "norm"),
        (ViT(class_token=False), "norm"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_detected_layer(model: nn.Module, layer: str) -> None:
    """What the last convolution's map becomes at its size counts, through whatever it goes."""
    assert network(prepare(model)).target_layer.path == layer


def test_one_cell_is_no_map() -> None:
    """Behind the pooling there is nothing to see, even where it is convolved."""
    net = network(prepare(Gated()))
    for path in ("gate", "gate.1", "final.1"):
        with pytest.raises(UnknownLayerError):
            net.layer(path)


def test_outputs_that_are_no_single_tensor() -> None:
    """A module that returns a tuple is refused as a layer."""
    with pytest.raises(UnknownLayerError):
        network(prepare(Tuples())).layer("pair")


def test_attention_matrices_are_no_maps() -> None:
    """A square matrix of tokens against tokens is not mistaken for an image."""
    with pytest.raises(UnknownLayerError):
        network(prepare(AttentionMatrix())).layer("show")


def test_functional_convolutions() -> None:
    """A map that no module makes can still be explained where a module passes it on."""
    assert network(prepare(FunctionalConvolution())).layer("body").channels == 6


def test_layers_are_listed_once() -> None:
    """Modules that return one and the same map share an entry, and each of their paths is accepted."""
    net = network_of("residual")
    paths = [layer.path for layer in net.layers]
    assert paths == ["stem", "stage.0.conv", "stage.0.norm", "stage.0", "stage.1.conv", "stage.1.norm", "stage.1"]
    assert net.layer("stage").path == "stage"
    recordings = [net.record(pictures(1), path).activation for path in ("stage", "stage.1", "stage.1.relu")]
    assert torch.equal(recordings[0], recordings[1])
    assert torch.equal(recordings[0], recordings[2])


def test_unused_modules_are_no_layers() -> None:
    """A module that does not run in the forward pass has no map."""

    class WithAuxiliary(ResidualCnn):
        def __init__(self) -> None:
            super().__init__()
            self.auxiliary = nn.Conv2d(6, 5, 1)

    with pytest.raises(UnknownLayerError):
        network(prepare(WithAuxiliary())).layer("auxiliary")


def test_untrained_head_of_zeros() -> None:
    """Where the scores depend on nothing yet, there is still a layer, and its map is degenerate."""
    model = prepare(ViT())
    with torch.no_grad():
        model.head.weight.zero_()  # type: ignore[union-attr, operator]
    assert network(model).target_layer.path == "norm"


def test_transformer_whose_patches_are_unused() -> None:
    """No map is invented where nothing is spatial."""
    with pytest.raises(NotApplicableError):
        _ = network(prepare(nn.Sequential(nn.Flatten(), nn.LazyLinear(5)))).target_layer
