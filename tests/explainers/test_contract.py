"""What every method in the registry must keep to."""

import copy
import dataclasses
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from torch import nn

from explainers import (
    METHODS,
    Classes,
    ImageResult,
    InvalidTargetError,
    NotApplicableError,
    TopK,
    UnknownLayerError,
    specs,
    validate,
)
from tests.explainers import references
from tests.explainers.cases import (
    CASES,
    SUBJECTS,
    double_network_of,
    each_method,
    each_pair,
    model_of,
    network_of,
    under_test,
)
from tests.explainers.networks import network, pictures, prepare


def test_every_method_is_in_the_table() -> None:
    """A method that is registered is tested here."""
    assert CASES.keys() == METHODS.keys()


@each_method
def test_description(name: str) -> None:
    """A method says what it is and describes each of its parameters; its defaults are valid."""
    method = METHODS[name]
    assert method.name == name
    assert all((method.title, method.reference, method.description, method.requirement))
    assert all(spec.description for spec in specs(method))
    validate(method())


@each_method
def test_requests_with_equal_parameters_can_be_grouped(name: str) -> None:
    """Methods are values: equal parameters make equal and hashable methods, also after resolving."""
    net = network_of(CASES[name].subjects[0])
    assert METHODS[name]() == METHODS[name]()
    resolved = METHODS[name]().resolve(net)
    assert {resolved: 1}[resolved.resolve(net)] == 1
    assert resolved.target_layer(net) == METHODS[name]().target_layer(net)


@each_pair
def test_shape_range_and_order(name: str, subject: str) -> None:
    """Maps are finite, fill [0, 1] on the grid of the layer (or the input), on the CPU, in the order of the targets."""
    net = network_of(subject)
    layer = METHODS[name]().target_layer(net)
    size = (net.layer(layer).height, net.layer(layer).width) if layer else net.input_size
    results = under_test(name).explain(net, pictures(), [TopK(2), Classes((3, 0, 3)), Classes(())])
    assert [len(result.explanations) for result in results] == [2, 3, 0]
    assert [item.target for item in results[1].explanations] == [3, 0, 3]
    best = results[0].logits.argsort(descending=True)[:2].tolist()
    assert [item.target for item in results[0].explanations] == best
    for item in (item for result in results for item in result.explanations):
        assert item.map.shape == size
        assert item.map.dtype == torch.float32
        assert item.map.device.type == "cpu"
        assert item.raw_maximum >= item.raw_minimum
        extremes = (item.map.min().item(), item.map.max().item())
        assert extremes == ((0, 0) if item.degenerate else (0, 1))


@each_pair
def test_logits(name: str, subject: str) -> None:
    """The logits are those of the model on the normalised image."""
    image = pictures(1)
    result = under_test(name).explain(network_of(subject), image, [TopK()])[0]
    reference = copy.deepcopy(model_of(subject)).double()
    expected = reference(references.normalised(image[0], (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)))[0]
    torch.testing.assert_close(result.logits.double(), expected.detach(), rtol=1e-4, atol=1e-5)


@each_pair
def test_agrees_with_the_definition(name: str, subject: str) -> None:
    """Maps and raw ranges are those of the slow reference, for every class."""
    net = double_network_of(subject) if CASES[name].in_double else network_of(subject)
    images = pictures()
    results = under_test(name).explain(net, images, [Classes(tuple(range(5)))] * len(images))
    for image, result in zip(images, results, strict=True):
        for item in result.explanations:
            raw = CASES[name].reference(subject, image, item.target)
            np.testing.assert_allclose(item.map, references.min_max(raw), atol=1e-4)
            ends = (item.raw_minimum, item.raw_maximum)
            np.testing.assert_allclose(ends, (raw.min(), raw.max()), rtol=1e-5, atol=1e-5)


@each_pair
def test_batch_equals_single(name: str, subject: str) -> None:
    """What else is in the batch makes no difference, not even an image that is not finite."""
    net = network_of(subject)
    images = pictures(4)
    images[2] = torch.nan
    targets = [TopK(1), TopK(3), TopK(2), Classes((4,))]
    together = under_test(name).explain(net, images, targets)
    for index in (0, 1, 3):
        alone = under_test(name).explain(net, images[index : index + 1], [targets[index]])[0]
        assert_close(together[index], alone)


@each_pair
def test_flat_and_broken_maps_are_safe(name: str, subject: str) -> None:
    """A map that says nothing is all zero and marked, whether it is constant or not finite."""
    if CASES[name].says_nothing:
        pytest.skip("the method never looks")
    flat = copy.deepcopy(model_of(subject))
    with torch.no_grad():
        for parameter in flat.parameters():
            parameter.zero_()
    layer = SUBJECTS[subject].layer
    results = []
    if name != "cam":  # CAM refuses a classifier of zeros: it can't tell that it follows a pooling
        results += under_test(name).explain(network(flat, target_layer=layer), pictures(1), [Classes((0, 1))])
    broken = torch.full((1, 3, 32, 32), torch.nan)
    results += under_test(name).explain(network_of(subject), broken, [Classes((0, 1))])
    for item in (item for result in results for item in result.explanations):
        assert item.degenerate
        assert not item.map.any()


@each_pair
def test_deterministic(name: str, subject: str) -> None:
    """The same question gets the same answer to the last bit."""
    first, second = (under_test(name).explain(network_of(subject), pictures(), [TopK(2)] * 3) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        assert_equal(a, b)


@each_method
def test_leaves_the_model_untouched_after_success(name: str) -> None:
    """Hooks, gradients, modes, requires_grad and weights of the caller's model stay, also while it is training."""
    model = prepare(SUBJECTS[CASES[name].subjects[0]].build()).train()
    stem = next(model.children()).eval()
    model.head.weight.requires_grad_(False)
    stem.weight.grad = torch.ones_like(stem.weight)
    with untouched(model):
        under_test(name).explain(network(model), pictures(2), [TopK(2)] * 2)


@each_method
def test_leaves_the_model_untouched_after_failure(name: str) -> None:
    """The same after a wrong class and after an exception in the model, and the next call works."""
    model = prepare(CASES[name].refusing())
    net = network(model)
    good = under_test(name).explain(net, pictures(2), [TopK()] * 2)
    with untouched(model):
        with pytest.raises(InvalidTargetError):
            under_test(name).explain(net, pictures(2), [TopK(), Classes((5,))])
        with pytest.raises(RuntimeError, match="refused"):
            under_test(name).explain(net, 1000 * pictures(2), [TopK()] * 2)
    for a, b in zip(good, under_test(name).explain(net, pictures(2), [TopK()] * 2), strict=True):
        assert_equal(a, b)


@each_method
def test_wrong_targets(name: str) -> None:
    """A class that the network does not have is refused, below and above."""
    for index in (-1, 5):
        with pytest.raises(InvalidTargetError, match="between 0 and 4"):
            under_test(name).explain(network_of(CASES[name].subjects[0]), pictures(1), [Classes((0, index))])


@each_method
def test_wrong_layers(name: str) -> None:
    """A layer that does not exist or has no map is refused, wherever it is first used."""
    if "layer" not in {spec.name for spec in specs(METHODS[name])}:
        pytest.skip("the method has no parameter for the layer")
    for path in ("nowhere", "head", "pool", ""):
        method = METHODS[name](layer=path)  # type: ignore[call-arg]
        net = network_of("residual")
        for attempt in (method.resolve, method.target_layer):
            with pytest.raises(UnknownLayerError) as caught:
                attempt(net)
            assert caught.value.parameter == "layer"
        with pytest.raises(UnknownLayerError):
            method.explain(net, pictures(1), [TopK()])


@each_method
def test_not_applicable(name: str) -> None:
    """Where the method is not defined it says so, at resolving and at explaining."""
    not_for = CASES[name].not_for
    if not_for is None:
        pytest.skip("the method works on every network")
    net = network(prepare(not_for()))
    with pytest.raises(NotApplicableError):
        METHODS[name]().resolve(net)
    with pytest.raises(NotApplicableError):
        under_test(name).explain(net, pictures(1), [TopK()])


def test_works_inside_the_callers_autograd_modes() -> None:
    """The result does not depend on whether the caller records gradients."""
    for name in METHODS:
        subject = CASES[name].subjects[0]
        expected = under_test(name).explain(network_of(subject), pictures(1), [TopK(2)])[0]
        for mode in (torch.no_grad, torch.inference_mode, torch.enable_grad):
            with mode():
                images = pictures(1)
                net = network(model_of(subject))
                assert_equal(under_test(name).explain(net, images, [TopK(2)])[0], expected)


def test_mixed_calls_from_many_threads_equal_serial_ones() -> None:
    """Any method on any network, layer and target, all at once on shared networks: bit-equal to one after another."""
    jobs = []
    for index in range(64):
        name = sorted(CASES)[index % len(CASES)]
        subject = CASES[name].subjects[index // 2 % len(CASES[name].subjects)]
        method = under_test(name)
        if index % 3 == 0 and any(spec.name == "layer" for spec in specs(type(method))):
            method = dataclasses.replace(method, layer=SUBJECTS[subject].further_layer)  # type: ignore[type-var]
        targets = [TopK(1 + index % 3), Classes((index % 5,))]
        jobs.append((method, subject, pictures(2, seed=index), targets))
    # Networks of their own, so that the threads also race for the first use of each layer.
    serial_networks = {subject: network(model_of(subject)) for subject in SUBJECTS}
    shared_networks = {subject: network(model_of(subject)) for subject in SUBJECTS}
    serial = [method.explain(serial_networks[subject], *rest) for method, subject, *rest in jobs]
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(method.explain, shared_networks[subject], *rest) for method, subject, *rest in jobs]
        threaded = [future.result() for future in futures]
    for expected, results in zip(serial, threaded, strict=True):
        for a, b in zip(expected, results, strict=True):
            assert_equal(a, b)


def assert_equal(a: ImageResult, b: ImageResult) -> None:
    """Bit-equal."""
    assert torch.equal(a.logits, b.logits)
    assert [item.target for item in a.explanations] == [item.target for item in b.explanations]
    for one, other in zip(a.explanations, b.explanations, strict=True):
        assert torch.equal(one.map, other.map)
        assert dataclasses.replace(one, map=other.map) == other


def assert_close(a: ImageResult, b: ImageResult) -> None:
    """Equal but for the order of float32 sums."""
    torch.testing.assert_close(a.logits, b.logits, rtol=1e-4, atol=1e-5)
    for one, other in zip(a.explanations, b.explanations, strict=True):
        assert (one.target, one.degenerate) == (other.target, other.degenerate)
        torch.testing.assert_close(one.map, other.map, rtol=0, atol=1e-4)


@contextmanager
def untouched(model: nn.Module) -> Iterator[None]:
    """Fails when anything on the modules of `model` is not as it was."""
    before = snapshot(model)
    yield
    after = snapshot(model)
    assert before.keys() == after.keys()
    for key, value in before.items():
        same = torch.equal(value, after[key]) if isinstance(value, torch.Tensor) else value == after[key]
        assert same, key


def snapshot(model: nn.Module) -> dict[str, object]:
    """Everything that a careless explainer might change."""
    state: dict[str, object] = {}
    for path, module in model.named_modules():
        state[f"{path} mode"] = module.training
        state[f"{path} attributes"] = sorted(vars(module))
        for name, value in vars(module).items():
            if name.endswith("_hooks") and value is not None:
                state[f"{path} {name}"] = list(value.values())
    for name, parameter in model.named_parameters():
        state[f"{name} requires_grad"] = parameter.requires_grad
        state[f"{name} grad"] = None if parameter.grad is None else parameter.grad.clone()
    for name, tensor in model.state_dict().items():
        state[f"{name} value"] = tensor.clone()
    return state
