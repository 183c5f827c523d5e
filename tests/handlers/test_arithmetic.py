"""The rule by which a model computes less exactly, and what answers say of it."""

import dataclasses
import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from explainers import Activation, Explanation, GradCam, ImageResult, Network
from explainers.arithmetic import Arithmetic
from handlers import batch
from handlers.arithmetic import candidates_of, choose, likeness, with_arithmetic
from handlers.settings import Numbers
from handlers.torchserve_handler import TorchServeHandler
from protos.explain.v1 import quality_pb2
from protos.worker.v1.worker_pb2 import WorkRequest
from tests.handlers.test_handler import GRAD_CAM, OK, VISIBLE, ask, start, work
from tests.tiny import unpack, write_tiny

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
BFLOAT16 = (Arithmetic.BFLOAT16,)
LEVELS = torch.arange(1, 17).float().view(1, 1, 4, 4) / 16
STEPS = LEVELS.repeat_interleave(8, 2).repeat_interleave(8, 3).expand(1, 3, 32, 32).contiguous()


class Patches(nn.Module):
    """Two channels of 4 x 4 patches' brightness, pooled, and two classes."""

    def __init__(self, kernels: tuple[float, float], head: tuple[float, float]) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 2, 8, stride=8, bias=False)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(2, 2, bias=False)
        with torch.no_grad():
            self.patches.weight.copy_(torch.tensor(kernels).view(2, 1, 1, 1) / 192)
            self.head.weight.copy_(torch.tensor([head, (0.0, 0.0)]))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.pool(self.patches(x)).flatten(1))


def prepared(model: nn.Module) -> Network:
    return Network(model, input_size=(32, 32), mean=(0.0,) * 3, std=(1.0,) * 3)


def steady() -> Network:
    """Brighter patches count more: steps of a sixteenth are far above bfloat16's rounding errors."""
    return prepared(Patches((0.31, 0.53), (0.43, 0.29)))


def cancelling() -> Network:
    """What is left of two channels that nearly cancel is rounding errors in bfloat16."""
    return prepared(Patches((1.0, 1.001), (-1.0, 1.0)))


def result(logits: list[float], saliency: list[float] | None = None) -> ImageResult:
    maps = () if saliency is None else (Explanation(0, torch.tensor([saliency]), 0.0, 1.0, degenerate=False),)
    return ImageResult(torch.tensor(logits), maps)


def test_the_rule_takes_what_gives_the_same_maps(caplog: pytest.LogCaptureFixture) -> None:
    """With the figure in the log; the decision is for this method with these parameters."""
    caplog.set_level(logging.INFO)
    network = steady()
    assert choose(network, STEPS, BFLOAT16, [GradCam]) == {
        None: Arithmetic.BFLOAT16,
        GradCam().resolve(network): Arithmetic.BFLOAT16,
    }
    assert "grad_cam in bfloat16: rank correlations with float32: bfloat16 1.0000" in caplog.text


def test_the_rule_refuses_other_maps(caplog: pytest.LogCaptureFixture) -> None:
    """Then the method stays in float32, and the log says so."""
    caplog.set_level(logging.INFO)
    network = cancelling()
    assert choose(network, STEPS, BFLOAT16, [GradCam])[GradCam().resolve(network)] is Arithmetic.FLOAT32
    assert "grad_cam in float32: rank correlations with it: bfloat16 " in caplog.text


def test_a_network_that_fails_in_it_stays_in_float32(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever it raises."""
    caplog.set_level(logging.INFO)

    class Picky(Patches):
        def forward(self, x: Tensor) -> Tensor:
            maps = self.patches(x)
            if maps.dtype != torch.float32:
                raise TypeError
            return self.head(self.pool(maps).flatten(1))

    network = prepared(Picky((0.31, 0.53), (0.43, 0.29)))
    assert set(choose(network, STEPS, BFLOAT16, [GradCam]).values()) == {Arithmetic.FLOAT32}
    assert "TypeError" in caplog.text


@pytest.mark.parametrize(
    ("other", "will_do"),
    [
        (result([1.0, 0.0001], [0.1, 0.5, 0.91]), True),
        (result([1.0, 0.0], [0.1, 0.5, 0.9]), False),  # nothing is gained
        (result([1.0, 0.0001], [0.5, 0.1, 0.9]), False),  # another order
        (result([1.0, 1.1], [0.1, 0.5, 0.91]), False),  # another class
        (result([1.0, 0.1], [0.1, 0.5, 0.91]), False),  # another probability
        (result([1.0, 0.0001], [0.0, 0.0, 0.0]), False),  # a flat map
        (result([1.0, 0.0001], [0.1, torch.nan, 0.9]), False),
        (result([torch.nan, 0.0], [0.1, 0.5, 0.91]), False),
        (result([1.0, 0.0001]), False),  # no map
    ],
)
def test_the_rule(other: ImageResult, will_do: bool) -> None:
    """Rank correlation above 0.999 in every map, the same top class, nearly the same probabilities, some difference."""
    exact = result([1.0, 0.0], [0.1, 0.5, 0.9])
    assert likeness([exact], [other], Activation.SOFTMAX).will_do is will_do
    assert not likeness([exact, exact], [exact, result([0.0, 1.0], [0.1, 0.5, 0.9])], Activation.SOFTMAX).will_do


def test_logits_stand_for_the_maps_of_a_prediction() -> None:
    """Their order over the classes counts."""
    exact = [result([3.0, 2.0, 1.0, 0.0])]
    assert likeness(exact, [result([3.0, 2.0001, 1.0, 0.0])], Activation.SOFTMAX).will_do
    assert not likeness(exact, [result([3.0, 2.0, 0.0, 0.0001])], Activation.SIGMOID).will_do


def test_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """None on a CPU, nor where the operator wants float32; on a GPU without bfloat16 not that one."""
    assert candidates_of(CPU, Numbers.AUTO) == candidates_of(GPU, Numbers.FLOAT32) == ()
    for has_it in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *_, has=has_it, **__: has)
        expected = [*([Arithmetic.BFLOAT16] if has_it else []), Arithmetic.FLOAT16, Arithmetic.TF32]
        assert list(candidates_of(GPU, Numbers.AUTO)) == expected


@pytest.fixture
def handler(tmp_path: Path) -> TorchServeHandler:
    """A handler whose model answers predictions and Grad-CAM in bfloat16."""
    handler = start(unpack(write_tiny(tmp_path), tmp_path))
    assert handler._worker is not None
    model = handler._worker.model
    assert with_arithmetic(model, Numbers.AUTO) is model  # on a CPU
    chosen = {None: Arithmetic.BFLOAT16, GradCam().resolve(model.network): Arithmetic.BFLOAT16}
    handler._worker = dataclasses.replace(handler._worker, model=dataclasses.replace(model, arithmetic=chosen))
    return handler


def test_the_description_says_it(handler: TorchServeHandler) -> None:
    """Of predictions and of every method that works."""
    model = ask(handler, WorkRequest(describe={}))[0].description.model
    said = {support.method: support.arithmetic for support in model.methods}
    assert (model.arithmetic, said["grad_cam"], said["layer_cam"], said["tibav"]) == (
        *("bfloat16", "bfloat16", "float32"),
        "",  # not on this network
    )


def test_answers_say_it(handler: TorchServeHandler) -> None:
    """What was asked of the rule is computed so; other parameters, methods, and maps that are measured are not."""
    elsewhere = type(GRAD_CAM)(grad_cam={"layer": "first"})
    figures = quality_pb2.QualityOptions(metrics=[quality_pb2.MetricChoice(name="average_drop")])
    others = type(GRAD_CAM)(layer_cam={})
    requests = [
        work(),
        work(method=GRAD_CAM, class_indices=[VISIBLE]),
        work(method=elsewhere, class_indices=[VISIBLE]),
        work(method=others, class_indices=[VISIBLE]),
        work(method=GRAD_CAM, class_indices=[VISIBLE], quality=figures),
    ]
    answers = ask(handler, *requests)
    assert [answer.status for answer in answers] == [OK] * 5
    assert [answer.image.arithmetic for answer in answers] == ["bfloat16"] * 2 + ["float32"] * 3
    assert answers[1].image.predictions[0].logit != answers[4].image.predictions[0].logit


def test_what_overflows_is_computed_again(handler: TorchServeHandler, monkeypatch: pytest.MonkeyPatch) -> None:
    """A score or a map that isn't finite is answered in float32, and the answer says so."""
    original = batch.computing

    class Overflowing(Network):
        def predict(self, images: Tensor) -> Tensor:
            return super().predict(images) * torch.inf

    def computing(network: Network, arithmetic: Arithmetic) -> object:
        if arithmetic is Arithmetic.BFLOAT16:
            network = network.in_autocast(torch.bfloat16)
            network.__class__ = Overflowing
        return original(network, Arithmetic.FLOAT32)

    monkeypatch.setattr(batch, "computing", computing)
    answer = ask(handler, work(), work())
    assert [each.status for each in answer] == [OK] * 2
    assert [each.image.arithmetic for each in answer] == ["float32"] * 2


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda() -> None:
    """On a GPU the rule takes something for the steady network, and answers in it."""
    network = Network(
        Patches((0.31, 0.53), (0.43, 0.29)), input_size=(32, 32), mean=(0.0,) * 3, std=(1.0,) * 3, device=GPU
    )
    chosen = choose(network, STEPS, candidates_of(GPU, Numbers.AUTO), [GradCam])
    assert chosen[GradCam().resolve(network)] is not Arithmetic.FLOAT32
