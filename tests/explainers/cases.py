"""One row for each method: on which networks it is tried, and what it must agree with."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache

import pytest
from torch import Tensor, nn

from explainers import METHODS, Method, Network
from tests.explainers import (
    references,
    references_attention,
    references_cam,
    references_extremal,
    references_flow,
    references_gradient,
    references_guided,
    references_lrp,
    references_opti_cam,
    references_perturbation,
)
from tests.explainers.networks import (
    MEAN,
    STD,
    Refusing,
    RefusingViT,
    ResidualCnn,
    Undifferentiable,
    ViT,
    fully_convolutional,
    network,
    perceptron,
    prepare,
    vgg,
)

RECTIFIED = ("residual", "vgg", "fully_convolutional")  # the subjects with ReLUs
VIT_GRID = references.tokens_to_grid(4, 4, prefix=3)


@dataclass(frozen=True)
class Subject:
    """A network to explain.

    Attributes:
        build: makes the model.
        layer: its target layer.
        further_layer: another layer with a map of the same layout.
        to_grid: how the layer's output is laid out.
    """

    build: Callable[[], nn.Module]
    layer: str
    further_layer: str
    to_grid: references.ToGrid = references.channels_first


SUBJECTS = {
    "residual": Subject(ResidualCnn, "stage.1", "stage.0.norm"),
    "vgg": Subject(vgg, "0.5", "0.3"),
    "fully_convolutional": Subject(fully_convolutional, "1", "0"),
    "vit": Subject(lambda: ViT(registers=2), "blocks.1.norm1", "blocks.0.norm2", VIT_GRID),
}


@cache
def model_of(subject: str) -> nn.Module:
    """The subject's model, made once."""
    return prepare(SUBJECTS[subject].build())


@cache
def network_of(subject: str) -> Network:
    """The subject's model ready to explain, made once."""
    return network(model_of(subject))


@cache
def double_network_of(subject: str) -> Network:
    """The same in float64."""
    return network(copy.deepcopy(model_of(subject)).double())


Reference = Callable[[str, Tensor, int], references.Map]


@dataclass(frozen=True)
class Case:
    """A method in the table.

    Attributes:
        subjects: names of the networks that it works on.
        reference: (subject, image, class) to the raw map, by the definition.
        not_for: makes a network for which the method is not defined; None when it is for every one.
        input_sized: the map has the size of the network's input, although the method has a layer.
        says_nothing: the map depends neither on the image nor on the network.
        refusing: makes a network that the method works on, and that raises for pixels larger than any can be.
        in_double: compare with the reference in float64: the method takes many steps, which enlarge rounding errors.
        parameters: what to make the method with: fewer samples than by default, where those would take long.
    """

    subjects: tuple[str, ...]
    reference: Reference
    not_for: Callable[[], nn.Module] | None
    input_sized: bool = False
    says_nothing: bool = False
    refusing: Callable[[], nn.Module] = Refusing
    in_double: bool = False
    parameters: Mapping[str, object] = field(default_factory=dict)


def _grad_cam(subject: str, image: Tensor, target: int) -> references.Map:
    entry = SUBJECTS[subject]
    inputs = references.normalised(image, MEAN, STD)
    return references.grad_cam(model_of(subject), inputs, entry.layer, target, entry.to_grid)


def _cam(subject: str, image: Tensor, target: int) -> references.Map:
    inputs = references.normalised(image, MEAN, STD)
    return references.cam(model_of(subject), inputs, SUBJECTS[subject].layer, "head", target)


def _of_layer(reference: Callable[..., references.Map]) -> Reference:
    """A reference that takes a model, an image, a layer, a class and a layout."""

    def of_subject(subject: str, image: Tensor, target: int) -> references.Map:
        entry = SUBJECTS[subject]
        return reference(model_of(subject), image, entry.layer, target, entry.to_grid)

    return of_subject


def _of_attention(reference: Callable[..., Tensor]) -> Case:
    """A reference that takes a transformer, and whatever else."""

    def of_subject(subject: str, image: Tensor, target: int) -> references.Map:
        inputs = references.normalised(image, MEAN, STD)
        names = references_attention.TORCH
        transformer = references_attention.Transformer(model_of(subject), inputs, names, heads=2)
        targets = (target,) if reference is references_attention.tibav else ()
        return references_attention.as_map(reference(transformer, *targets), 4, 4)

    return Case(("vit",), of_subject, ResidualCnn, refusing=RefusingViT)


def _opti_cam(subject: str, image: Tensor, target: int) -> references.Map:
    entry = SUBJECTS[subject]
    model = model_of(subject)
    return references_opti_cam.opti_cam(model, image, MEAN, STD, entry.layer, target, entry.to_grid).raw


def _lrp(subject: str, image: Tensor, target: int) -> references.Map:
    return references_lrp.lrp(model_of(subject), image, target)


def _extremal_perturbation(subject: str, image: Tensor, target: int) -> references.Map:
    quick = CASES["extremal_perturbation"].parameters
    return references_extremal.extremal_perturbation(model_of(subject), image, MEAN, STD, target, **quick).mask


CASES = {
    "grad_cam": Case(tuple(SUBJECTS), _grad_cam, perceptron),
    "cam": Case(("residual",), _cam, vgg),
    "grad_cam_plus_plus": Case(tuple(SUBJECTS), _of_layer(references_cam.grad_cam_plus_plus), perceptron),
    "smooth_grad_cam_plus_plus": Case(tuple(SUBJECTS), _of_layer(references_cam.smooth_grad_cam_plus_plus), perceptron),
    "xgrad_cam": Case(tuple(SUBJECTS), _of_layer(references_cam.xgrad_cam), perceptron),
    "layer_cam": Case(tuple(SUBJECTS), _of_layer(references_cam.layer_cam), perceptron),
    "score_cam": Case(tuple(SUBJECTS), _of_layer(references_cam.score_cam), perceptron),
    "ss_cam": Case(tuple(SUBJECTS), _of_layer(references_cam.ss_cam), perceptron),
    "ablation_cam": Case(tuple(SUBJECTS), _of_layer(references_cam.ablation_cam), perceptron),
    "gradient": Case(tuple(SUBJECTS), _of_layer(references_gradient.gradient), Undifferentiable),
    "smooth_grad": Case(tuple(SUBJECTS), _of_layer(references_gradient.smooth_grad), Undifferentiable),
    "integrated_gradients": Case(
        tuple(SUBJECTS), _of_layer(references_gradient.integrated_gradients), Undifferentiable
    ),
    "occlusion": Case(tuple(SUBJECTS), _of_layer(references_gradient.occlusion), None),
    "guided_backprop": Case(RECTIFIED, _of_layer(references_guided.guided_backprop), ViT),
    "guided_grad_cam": Case(RECTIFIED, _of_layer(references_guided.guided_grad_cam), ViT, input_sized=True),
    "rise": Case(tuple(SUBJECTS), _of_layer(references_perturbation.rise), None, parameters={"samples": 64}),
    "lime": Case(
        tuple(SUBJECTS),
        _of_layer(references_perturbation.lime),
        None,
        parameters={"samples": 64, "segments": 12, "baseline": "superpixel_mean"},
    ),
    "kernel_shap": Case(
        tuple(SUBJECTS),
        _of_layer(references_perturbation.kernel_shap),
        None,
        parameters={"samples": 64, "segments": 12, "baseline": "superpixel_mean"},
    ),
    "opti_cam": Case(tuple(SUBJECTS), _opti_cam, perceptron, in_double=True),
    "lrp": Case(("residual", "vgg", "fully_convolutional"), _lrp, ViT),
    "extremal_perturbation": Case(
        tuple(SUBJECTS), _extremal_perturbation, Undifferentiable, in_double=True, parameters={"steps": 4}
    ),
    "fake_cam": Case(tuple(SUBJECTS), _of_layer(references_cam.fake_cam), None, says_nothing=True),
    "tibav": _of_attention(references_attention.tibav),
    "raw_attention": _of_attention(references_attention.raw_attention),
    "attention_rollout": _of_attention(references_attention.attention_rollout),
    "attention_flow": _of_attention(references_flow.attention_flow),
}


def make(name: str) -> Method:
    """The method as it is tested: with its default parameters, but for those of its row."""
    return METHODS[name](**CASES[name].parameters)


each_method = pytest.mark.parametrize("name", sorted(METHODS))
each_pair = pytest.mark.parametrize(
    ("name", "subject"), [(name, subject) for name, case in CASES.items() for subject in case.subjects]
)
