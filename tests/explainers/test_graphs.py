"""Captured programs: the same answers as without, captured when it pays, and given up when they can't be."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from explainers import Classes, ImageResult, Network, OptiCam, Tibav, TopK, graphs, pairs
from explainers.graphs import Graphs, Loop
from tests.explainers.cases import SUBJECTS, model_of
from tests.explainers.fake_graphs import FakeGraphs, install
from tests.explainers.networks import network, pictures

CPU = torch.device("cpu")
ON_A_GPU = [*((subject, OptiCam(steps=8)) for subject in SUBJECTS), ("vit", Tibav())]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeGraphs:
    """Programs on the CPU are captured."""
    return install(monkeypatch)


def doubled(x: Tensor) -> tuple[Tensor]:
    return (2 * x,)


def same(one: Sequence[ImageResult], other: Sequence[ImageResult]) -> None:
    for a, b in zip(one, other, strict=True):
        torch.testing.assert_close(a.logits, b.logits)
        for left, right in zip(a.explanations, b.explanations, strict=True):
            assert left.target == right.target
            torch.testing.assert_close(left.map, right.map, rtol=0, atol=1e-4)


def test_a_cpu_runs_programs_as_they_are() -> None:
    """Nothing is captured, however often a program comes."""
    kept = Graphs(CPU)
    loop = kept.loop()
    for _ in range(3):
        assert loop(doubled, torch.ones(2))[0].tolist() == [2, 2]
        with kept.stages("key", lambda x: (x + 1, lambda seed: seed * x), torch.ones(1, 2)) as (answer, follow):
            assert (answer.tolist(), follow(answer).tolist()) == ([[2, 2]], [[2, 2]])
    assert not loop._captured
    assert not kept._kept


def test_a_loop_is_captured_at_its_second_step(fake: FakeGraphs) -> None:
    """Each step has its own answer, also when later steps have overwritten the captured memory."""
    loop = Graphs(CPU).loop()
    answers = [loop(doubled, torch.full((2,), float(step)))[0] for step in range(4)]
    assert [answer.tolist() for answer in answers] == [[0, 0], [2, 2], [4, 4], [6, 6]]
    assert (fake.captures, fake.replays) == (1, 3)


def test_a_loop_captures_few_shapes(fake: FakeGraphs) -> None:
    """Rows that end one by one don't make a capture each."""
    loop = Graphs(CPU).loop()
    for rows in (5, 5, 4, 4, 3, 3, 3):
        assert len(loop(doubled, torch.ones(rows))[0]) == rows
    assert fake.captures == graphs.MOST_SHAPES


def test_a_failed_capture_is_said_once_and_changes_nothing(fake: FakeGraphs, caplog: pytest.LogCaptureFixture) -> None:
    """What waits for a value runs as it is, here and wherever the network's other programs come by."""
    kept = Graphs(CPU)

    def waits(x: Tensor) -> tuple[Tensor]:
        return (x * x.sum().item(),)

    for loop in (kept.loop(), kept.loop()):
        assert [loop(waits, torch.ones(2))[0].tolist() for _ in range(3)] == [[2, 2]] * 3
    assert fake.captures == 0
    assert [record.getMessage() for record in caplog.records] == ["no CUDA graphs: a capture failed with CaptureError"]


@pytest.mark.parametrize("preset", ["published", "fast"])
@pytest.mark.parametrize("subject", list(SUBJECTS))
@pytest.mark.parametrize(("at_once", "captures"), [(3, 1), (2, 2)])
def test_opti_cam(
    monkeypatch: pytest.MonkeyPatch, fake: FakeGraphs, subject: str, preset: str, at_once: int, captures: int
) -> None:
    """Its step can be captured on every network, and replayed steps lead to the same maps."""
    monkeypatch.setitem(pairs.ROWS_AT_ONCE, "cpu", at_once)
    method, net = OptiCam(steps=4, preset=preset), network(model_of(subject))
    captured = method.explain(net, pictures(), [TopK()] * 3)
    assert fake.captures == captures  # whole parts, and what is left
    assert fake.replays > 0
    monkeypatch.setattr(graphs, "can_capture", lambda _device: False)
    same(captured, method.explain(net, pictures(), [TopK()] * 3))


@pytest.mark.parametrize("rule", ["stable", "published"])
def test_tibav(monkeypatch: pytest.MonkeyPatch, fake: FakeGraphs, rule: str) -> None:
    """Captured with the second request, replayed for other images and other classes with their own answers."""
    method, net = Tibav(rule=rule), network(model_of("vit"))
    images = pictures(2)
    requests = [(images, Classes((0, 3))), (images.flip(0), Classes((1,))), (images / 2, Classes((2, 4, 0)))]
    answers = [method.explain(net, images, [classes] * 2) for images, classes in requests]
    assert fake.captures == 2  # both stages
    monkeypatch.setattr(graphs, "can_capture", lambda _device: False)
    for (images, classes), answer in zip(requests, answers, strict=True):
        same(answer, method.explain(net, images, [classes] * 2))


def test_few_programs_are_kept(fake: FakeGraphs) -> None:
    """The latest ones; another batch size, or other parameters, are another program, and large batches none."""
    net = network(model_of("vit"))
    for start_layer in (0, 1, 0, 1):
        Tibav(start_layer=start_layer).explain(net, pictures(1), [TopK()])
    for _ in range(2):
        Tibav().explain(net, pictures(2), [TopK()] * 2)
        Tibav().explain(net, pictures(2).repeat(3, 1, 1, 1), [TopK()] * 6)
    assert fake.captures == 2 * 3
    assert len(net.graphs._kept) == graphs.MOST_PROGRAMS
    net.graphs.clear()
    assert not net.graphs._kept


def test_written_weights_are_seen(monkeypatch: pytest.MonkeyPatch, fake: FakeGraphs) -> None:
    """After an update in place a program is captured anew: it holds what was made of the old weights."""
    model = model_of("vit")
    net = network(model)
    for _ in range(2):
        Tibav().explain(net, pictures(1), [TopK()])
    weight = net.transformer.blocks[0].mlp.fc1.weight  # type: ignore[union-attr]
    before = weight.detach().clone()
    try:
        weight.mul_(-0.5)
        after = Tibav().explain(net, pictures(1), [TopK()])
        again = Tibav().explain(net, pictures(1), [TopK()])
        monkeypatch.setattr(graphs, "can_capture", lambda _device: False)
        expected = Tibav().explain(net, pictures(1), [TopK()])
    finally:
        weight.copy_(before)
    same(after, expected)
    same(again, expected)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("subject", "method"), ON_A_GPU)
def test_cuda(monkeypatch: pytest.MonkeyPatch, subject: str, method: OptiCam | Tibav) -> None:
    """On a GPU everything is captured without a failure, and answers are those of the same GPU without graphs."""
    net: Network = network(model_of(subject), device="cuda")
    requests = [pictures(2), pictures(2).flip(0), pictures(2) / 2]
    found = [method.explain(net, images, [TopK(2)] * 2) for images in requests]
    assert net.graphs.replays
    assert isinstance(net.graphs.loop(), Loop)
    assert bool(net.graphs._kept) == isinstance(method, Tibav)
    monkeypatch.setattr(graphs, "can_capture", lambda _device: False)
    for images, results in zip(requests, found, strict=True):
        same(results, method.explain(net, images, [TopK(2)] * 2))
