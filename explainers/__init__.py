"""Explains image classifiers: a network, images and targets to saliency maps.

    network = Network(model, input_size=(224, 224), mean=MEAN, std=STD)
    results = METHODS["grad_cam"]().explain(network, images, [TopK(1)] * len(images))

A new method is one file with a class under `@register`, and one import here.
"""

from explainers.cam import Cam
from explainers.errors import (
    ExplainerError,
    InvalidParameterError,
    InvalidTargetError,
    NotApplicableError,
    UnknownLayerError,
)
from explainers.grad_cam import GradCam
from explainers.layers import LayerInfo
from explainers.maps import NormalisedMaps, normalise, upsample
from explainers.network import Network
from explainers.parameters import ParameterSpec, parameter, specs, validate
from explainers.recorder import Recording
from explainers.registry import METHODS, Method, register
from explainers.result import Explanation, ImageResult
from explainers.targets import Classes, Targets, TopK

__all__ = [
    "METHODS",
    "Cam",
    "Classes",
    "ExplainerError",
    "Explanation",
    "GradCam",
    "ImageResult",
    "InvalidParameterError",
    "InvalidTargetError",
    "LayerInfo",
    "Method",
    "Network",
    "NormalisedMaps",
    "NotApplicableError",
    "ParameterSpec",
    "Recording",
    "Targets",
    "TopK",
    "UnknownLayerError",
    "normalise",
    "parameter",
    "register",
    "specs",
    "upsample",
    "validate",
]
