"""Less exact arithmetic: where it is used, and that nothing of it stays."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from explainers import METHODS, TopK
from explainers.arithmetic import _CONVOLUTIONS, _MATRICES, Arithmetic, computing, exact_float32
from tests.explainers.cases import model_of, network_of
from tests.explainers.networks import ResidualCnn, network, pictures, prepare


@pytest.fixture(autouse=True)
def _switches() -> Iterator[None]:
    """The switches of this process are as they were afterwards."""
    before = _CONVOLUTIONS.fp32_precision, _MATRICES.fp32_precision
    yield
    _CONVOLUTIONS.fp32_precision, _MATRICES.fp32_precision = before


class Noting(nn.Module):
    """Notes in what its convolution answers."""

    seen: list[torch.dtype] = []  # noqa: RUF012 - shared by all copies on purpose: the explainer works on one of them

    def __init__(self) -> None:
        super().__init__()
        self.body = ResidualCnn()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(self.body.stem(x).dtype)
        return self.body(x)


def test_every_pass_is_in_autocast() -> None:
    """Predictions, recordings and changed activations; the network itself goes on in float32."""
    net = network(prepare(Noting()))
    images, layer = pictures(1), net.target_layer.path
    for arithmetic, dtype in ((Arithmetic.BFLOAT16, torch.bfloat16), (Arithmetic.FLOAT32, torch.float32)):
        with computing(net, arithmetic) as used:
            Noting.seen.clear()
            assert used.predict(images).dtype == torch.float32
            used.record(images, layer)
            used.changed_logits(images, layer, lambda grid: grid * 1)
            used.for_many_passes().logits(images)
        assert Noting.seen[-4:] == [dtype] * 4
    assert net.autocast is None


@pytest.mark.parametrize("name", ["cam", "grad_cam", "opti_cam", "occlusion", "gradient", "smooth_grad"])
def test_maps_in_bfloat16(name: str) -> None:
    """Methods take what such a pass returns, and their maps are float32 and near those that they should be."""
    net = network(model_of("residual"))
    exact = METHODS[name]().explain(net, pictures(1), [TopK()])[0]
    with computing(net, Arithmetic.BFLOAT16) as used:
        found = METHODS[name]().explain(used, pictures(1), [TopK()])[0]
    assert found.logits.dtype == found.explanations[0].map.dtype == torch.float32
    torch.testing.assert_close(found.logits, exact.logits, rtol=0.05, atol=0.05)
    assert not torch.equal(found.logits, exact.logits)


@pytest.mark.parametrize("name", ["tibav", "lrp"])
def test_some_methods_stay_in_float32(name: str) -> None:
    """Those that compute by themselves are the same in every bit."""
    net = network_of("vit" if name == "tibav" else "vgg")
    with computing(net, Arithmetic.BFLOAT16) as used:
        found = METHODS[name]().explain(used, pictures(1), [TopK()])[0]
    exact = METHODS[name]().explain(net, pictures(1), [TopK()])[0]
    assert torch.equal(found.explanations[0].map, exact.explanations[0].map)


def test_tf32_is_a_switch() -> None:
    """It is on within, and as before after an error; float32 can be made exact for good."""
    exact_float32()

    def give_up() -> None:
        with computing(network_of("vit"), Arithmetic.TF32) as used:
            assert used is network_of("vit")
            assert (_CONVOLUTIONS.fp32_precision, _MATRICES.fp32_precision) == ("tf32", "tf32")
            raise TimeoutError

    with pytest.raises(TimeoutError):
        give_up()
    assert (_CONVOLUTIONS.fp32_precision, _MATRICES.fp32_precision) == ("ieee", "ieee")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("arithmetic", list(Arithmetic))
@pytest.mark.parametrize("name", ["grad_cam", "opti_cam"])
def test_cuda(arithmetic: Arithmetic, name: str) -> None:
    """Every arithmetic answers on a GPU, with scores near float32's."""
    exact_float32()
    net = network(model_of("residual"), device="cuda")
    exact = METHODS[name]().explain(net, pictures(2), [TopK()] * 2)
    with computing(net, arithmetic) as used:
        found = METHODS[name]().explain(used, pictures(2), [TopK()] * 2)
    for one, other in zip(found, exact, strict=True):
        torch.testing.assert_close(one.logits, other.logits, rtol=0.05, atol=0.05)
