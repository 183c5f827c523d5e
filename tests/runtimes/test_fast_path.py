"""The graph answers what torch answers: logits, classes, maps, for any batch and any number of classes."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from explainers import Cam, Classes, GradCam, ImageResult, InvalidTargetError, LayerCam, Method, Network, Targets, TopK
from runtimes import FastPath, GraphError, ParityError, load_fast_path
from runtimes.signature import NO_MAP
from tests.explainers.networks import network as make_network
from tests.explainers.networks import pictures, prepare, vgg
from tests.runtimes.conftest import TAGS, Exported

TOLERANCE = 1e-4
Loaded = Callable[[str], tuple[Network, FastPath]]
NAMES = ("cam", "vgg", "vit")


def same(ours: Sequence[ImageResult], theirs: Sequence[ImageResult], tolerance: float = TOLERANCE) -> None:
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one.logits, other.logits, rtol=0, atol=tolerance)
        assert [item.target for item in one.explanations] == [item.target for item in other.explanations]
        for item, expected in zip(one.explanations, other.explanations, strict=True):
            assert item.degenerate == expected.degenerate
            assert torch.allclose(item.map, expected.map, rtol=0, atol=tolerance)
            assert item.raw_minimum == pytest.approx(expected.raw_minimum, abs=tolerance)
            assert item.raw_maximum == pytest.approx(expected.raw_maximum, abs=tolerance)


def both(pair: tuple[Network, FastPath], images: Tensor, targets: Sequence[Targets], method: Method) -> None:
    network, fast = pair
    resolved = method.resolve(network)
    assert fast.serves(resolved, targets)
    same(fast.explain(resolved, images, targets), resolved.explain(network, images, targets))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_grad_cam(loaded: Loaded, name: str, batch: int) -> None:
    """Whatever the batch, the most probable class and any other have the logits and the map that torch gives them."""
    images = pictures(batch)
    both(loaded(name), images, [TopK()] * batch, GradCam())
    both(loaded(name), images, [Classes((index % 5,)) for index in range(batch)], GradCam())


def test_the_maps_say_something(loaded: Loaded) -> None:
    """Or agreeing would mean nothing: classes and images have different maps."""
    for name in NAMES:
        network, fast = loaded(name)
        images = pictures(2)
        found = [fast.explain(GradCam().resolve(network), images, [Classes((index,))] * 2) for index in range(5)]
        maps = [result.explanations[0].map for results in found for result in results]
        assert len({tuple(each.flatten().tolist()) for each in maps if each.any()}) > 3


@pytest.mark.parametrize("method", [Cam(), GradCam(), GradCam(layer="stage.1.relu")])
def test_any_number_of_classes(loaded: Loaded, method: Method) -> None:
    """Of a linear head, one run explains several, as many for each image as were asked for."""
    both(loaded("cam"), pictures(3), [TopK(3), Classes((4, 0)), TopK(99)], method)


@pytest.mark.parametrize("name", NAMES)
def test_prediction(loaded: Loaded, name: str) -> None:
    network, fast = loaded(name)
    assert fast.serves(None, [])
    assert torch.allclose(fast.predict(pictures(3)), network.predict(pictures(3)), rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", NAMES)
def test_a_prediction_computes_no_map(loaded: Loaded, name: str) -> None:
    """ONNX Runtime computes all that leads to any output, so the graph itself must leave the maps out."""
    network, fast = loaded(name)
    asked = {"images": pictures(2).numpy(), "classes": np.full((2, 1), NO_MAP)}
    logits, _, maps = fast.session.run(None, asked)
    assert maps.shape == (0, 0, 0, 0)
    assert torch.allclose(torch.from_numpy(logits), network.predict(pictures(2)), rtol=0, atol=TOLERANCE)


def test_batch_equals_single(loaded: Loaded) -> None:
    """Neighbours in a batch don't matter."""
    for name in NAMES:
        network, fast = loaded(name)
        method, images = GradCam().resolve(network), pictures(4)
        singly = [fast.explain(method, image[None], [TopK()])[0] for image in images]
        same(fast.explain(method, images, [TopK()] * 4), singly)


def test_what_it_does_not_serve(loaded: Loaded) -> None:
    """Other methods, other layers, CAM without a linear head, and several classes where each takes a pass."""
    network, fast = loaded("vgg")
    method = GradCam().resolve(network)
    assert fast.serves(method, [TopK(1), Classes((3,))])
    assert not fast.serves(method, [TopK(1), Classes((3, 1))])
    assert not fast.serves(method, [TopK(2)])
    assert not fast.serves(GradCam(layer="0.0").resolve(network), [TopK()])
    assert not fast.serves(LayerCam().resolve(network), [TopK()])
    assert not fast.serves(Cam(), [TopK()])
    assert loaded("cam")[1].serves(Cam(), [TopK(5)])


def test_equal_scores(loaded: Loaded) -> None:
    """Where the graph ranks classes otherwise than `explainers` does, the map is still that of the right class."""
    network, fast = loaded("vgg")

    class Reversed:
        """Its most probable class is always the wrong one."""

        def run(self, outputs: list[str] | None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
            feeds["classes"] = np.where(feeds["classes"] < 0, -5, feeds["classes"])
            return fast.session.run(outputs, feeds)

    wrong = replace(fast, session=Reversed())
    both((network, wrong), pictures(2), [TopK(), Classes((2,))], GradCam())


@pytest.mark.parametrize("index", [-1, 5])
def test_a_class_that_is_not_there(loaded: Loaded, index: int) -> None:
    network, fast = loaded("vit")
    with pytest.raises(InvalidTargetError):
        fast.explain(GradCam().resolve(network), pictures(1), [Classes((index,))])


def test_many_threads(loaded: Loaded) -> None:
    """One session, many threads, each its own answer."""
    network, fast = loaded("vit")
    method, images = GradCam().resolve(network), pictures(16)
    expected = fast.explain(method, images, [TopK()] * 16)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda image: fast.explain(method, image[None], [TopK()])[0], images))
    same(found, expected)


def test_a_graph_of_another_model(exported: Callable[[str], Exported]) -> None:
    """Other weights by their digest, another layer by its path, and other numbers by themselves."""
    network, graph = exported("vgg")
    with pytest.raises(GraphError, match="export it again"):
        load_fast_path(graph, network, {"whylight.weights": "others"})
    with pytest.raises(GraphError, match=r"layer 0\.2"):
        load_fast_path(graph, make_network(prepare(vgg()), target_layer="0.2"), TAGS)
    with pytest.raises(ParityError, match="logits"):
        load_fast_path(graph, make_network(prepare(vgg(), seed=1), target_layer="0.5"), TAGS)
