"""The network: normalisation, prediction, layers by path."""

import pytest
import torch
from torch import Tensor, nn

from explainers import METHODS, Network, NotApplicableError, TopK, UnknownLayerError
from tests.explainers.cases import SUBJECTS, model_of, network_of
from tests.explainers.networks import MEAN, STD, ResidualCnn, network, perceptron, pictures, prepare, vgg


def expected_logits(model: nn.Module, images: Tensor) -> Tensor:
    """The model on images that are normalised here."""
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (MEAN, STD))
    with torch.no_grad():
        return model((images - mean) / std)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_predict(subject: str) -> None:
    """Prediction normalises the pixels itself and answers in float32, without a graph."""
    logits = network_of(subject).predict(pictures())
    torch.testing.assert_close(logits, expected_logits(model_of(subject), pictures()), rtol=1e-4, atol=1e-5)
    assert logits.dtype == torch.float32
    assert not logits.requires_grad


def test_logits_are_differentiable_in_the_images() -> None:
    """Methods that optimise the input get a gradient through the normalisation."""
    images = pictures(1).requires_grad_()
    (gradient,) = torch.autograd.grad(network_of("vgg").logits(images)[0, 0], images)
    assert gradient.shape == images.shape
    assert gradient.abs().max() > 0


def test_class_count_and_device() -> None:
    """The network knows how many classes it has and where it computes."""
    net = network_of("vit")
    assert net.class_count == 5
    assert net.device == torch.device("cpu")


def test_wrong_image_size() -> None:
    """Images of another size are a mistake of the caller."""
    for shape in ((1, 3, 31, 32), (3, 32, 32)):
        with pytest.raises(ValueError, match=r"\(batch, 3, 32, 32\)"):
            network_of("vgg").predict(torch.zeros(shape))


def test_network_without_a_map() -> None:
    """A network without a spatial map can predict, and says that it has no layer to explain."""
    model = prepare(perceptron())
    net = network(model)
    torch.testing.assert_close(net.predict(pictures()), expected_logits(model, pictures()), rtol=1e-4, atol=1e-5)
    assert net.layers == ()
    assert net.linear_head is None
    with pytest.raises(NotApplicableError, match="no layer"):
        _ = net.target_layer
    with pytest.raises(NotApplicableError):
        net.layer()


def test_chosen_target_layer() -> None:
    """A target layer by path is taken; one that doesn't exist is refused when the network is made."""
    net = network(prepare(ResidualCnn()), target_layer="stage.0")
    assert net.layer().path == "stage.0"
    with pytest.raises(UnknownLayerError, match="no such layer"):
        network(prepare(ResidualCnn()), target_layer="stage.7")


def test_record_refuses_layers_without_a_map() -> None:
    """Recording a layer that doesn't exist, or has no map, is refused."""
    for path in ("head", "pool", "none.such", "", "stage.0.norm.weight"):
        with pytest.raises(UnknownLayerError):
            network_of("residual").record(pictures(), path)


def test_every_listed_layer_can_be_recorded() -> None:
    """Each layer that the network lists is accepted, with the shape that the list says."""
    for subject in SUBJECTS:
        net = network_of(subject)
        for layer in net.layers:
            shape = net.record(pictures(2), layer.path).activation.shape
            assert tuple(shape) == (2, layer.channels, layer.height, layer.width)


@pytest.mark.parametrize("output", ["tuple", "dict", "map"])
def test_refuses_models_that_return_no_logits(output: str) -> None:
    """A model must return one tensor of logits."""

    class Odd(ResidualCnn):
        def forward(self, x: Tensor) -> object:  # type: ignore[override]
            logits = super().forward(x)
            return {"tuple": (logits, logits), "dict": {"logits": logits}, "map": logits[:, :, None, None]}[output]

    with pytest.raises(NotApplicableError, match="must return logits"):
        Network(Odd(), input_size=(32, 32), mean=MEAN, std=STD)


def test_mean_colour() -> None:
    """The pixel that becomes zero behind the model's normalisation."""
    net = network(nn.Flatten(), (4, 4))
    assert torch.equal(net.predict(net.mean_colour.expand(1, 3, 4, 4)), torch.zeros(1, 3 * 4 * 4))


def test_like() -> None:
    """Another model gets the same input, normalisation and target layer, and gives its own answers."""
    first = network(model_of("vgg"), target_layer="0.2")
    other = prepare(vgg(), seed=5)
    second = first.like(other)
    expected = network(other, target_layer="0.2")
    assert torch.equal(second.predict(pictures()), expected.predict(pictures()))
    assert not torch.equal(second.predict(pictures()), first.predict(pictures()))
    assert second.target_layer == expected.target_layer


def test_like_a_network_without_layers() -> None:
    """Where there is no target layer, the other one has none either."""
    other = network(prepare(perceptron())).like(prepare(perceptron(), seed=5))
    with pytest.raises(NotApplicableError):
        _ = other.target_layer


def test_many_passes_say_the_same() -> None:
    """Images and kernels in another order, the same logits but for rounding; the network itself stays as it is."""
    for subject in SUBJECTS:
        net = network(model_of(subject))
        many = net.for_many_passes()
        assert (many.memory_format, net.memory_format) == (torch.channels_last, torch.preserve_format)
        torch.testing.assert_close(many.predict(pictures()), net.predict(pictures()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("fails", [True, False])
def test_many_passes_of_a_network_that_counts_on_its_memory(fails: bool) -> None:
    """One that can't take, or misreads, another order of its maps goes on as it is, for every method that asks."""

    class Careless(ResidualCnn):
        def forward(self, x: Tensor) -> Tensor:
            maps = self.stem(x)
            if fails:
                maps = maps.view(len(maps), -1).view(maps.shape)
            else:
                maps = maps.as_strided(maps.shape, torch.empty(maps.shape).stride())
            return self.head(self.pool(maps).flatten(1))

    net = network(prepare(Careless()))
    assert net.for_many_passes() is net
    for name in ("opti_cam", "occlusion", "score_cam"):
        METHODS[name]().explain(net, pictures(1), [TopK()])


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("subject", SUBJECTS)
def test_cuda(subject: str) -> None:
    """On a GPU the model of the caller stays on the CPU, and the answers are the same to float32."""
    net = network(model_of(subject), device="cuda")
    assert next(model_of(subject).parameters()).device.type == "cpu"
    on_cpu = METHODS["grad_cam"]().explain(network_of(subject), pictures(), [TopK(2)] * 3)
    for a, b in zip(METHODS["grad_cam"]().explain(net, pictures(), [TopK(2)] * 3), on_cpu, strict=True):
        torch.testing.assert_close(a.logits, b.logits, rtol=1e-2, atol=1e-2)
        for one, other in zip(a.explanations, b.explanations, strict=True):
            torch.testing.assert_close(one.map, other.map, rtol=0, atol=2e-2)
