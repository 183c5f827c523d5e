"""Explains image classifiers: a network, images and targets to saliency maps.

    network = Network(model, input_size=(224, 224), mean=MEAN, std=STD)
    results = METHODS["grad_cam"]().explain(network, images, [TopK(1)] * len(images))

A new method is one file with a class under `@register`, and one import here.
"""

from explainers.ablation_cam import AblationCam
from explainers.activation import Activation
from explainers.attention_flow import AttentionFlow
from explainers.attention_rollout import AttentionRollout
from explainers.cam import Cam
from explainers.errors import (
    ExplainerError,
    InvalidParameterError,
    InvalidTargetError,
    NotApplicableError,
    UnknownLayerError,
)
from explainers.extremal_perturbation import ExtremalPerturbation
from explainers.fake_cam import FakeCam
from explainers.grad_cam import GradCam
from explainers.grad_cam_plus_plus import GradCamPlusPlus
from explainers.gradient import Gradient
from explainers.guided_backprop import GuidedBackprop
from explainers.guided_grad_cam import GuidedGradCam
from explainers.integrated_gradients import IntegratedGradients
from explainers.kernel_shap import KernelShap
from explainers.layer_cam import LayerCam
from explainers.layers import LayerInfo
from explainers.lime import Lime
from explainers.lrp import Lrp
from explainers.maps import NormalisedMaps, normalise, upsample
from explainers.network import Network
from explainers.occlusion import Occlusion
from explainers.opti_cam import OptiCam
from explainers.parameters import ParameterSpec, parameter, specs, validate
from explainers.raw_attention import RawAttention
from explainers.recorder import Recording
from explainers.registry import METHODS, Method, register
from explainers.result import Explanation, ImageResult
from explainers.rise import Rise
from explainers.score_cam import ScoreCam
from explainers.smooth_grad import SmoothGrad
from explainers.smooth_grad_cam_plus_plus import SmoothGradCamPlusPlus
from explainers.ss_cam import SsCam
from explainers.targets import Classes, Targets, TopK
from explainers.tibav import Tibav
from explainers.watch import MapWatch, Stepwise, Watch
from explainers.xgrad_cam import XGradCam

__all__ = [
    "METHODS",
    "AblationCam",
    "Activation",
    "AttentionFlow",
    "AttentionRollout",
    "Cam",
    "Classes",
    "ExplainerError",
    "Explanation",
    "ExtremalPerturbation",
    "FakeCam",
    "GradCam",
    "GradCamPlusPlus",
    "Gradient",
    "GuidedBackprop",
    "GuidedGradCam",
    "ImageResult",
    "IntegratedGradients",
    "InvalidParameterError",
    "InvalidTargetError",
    "KernelShap",
    "LayerCam",
    "LayerInfo",
    "Lime",
    "Lrp",
    "MapWatch",
    "Method",
    "Network",
    "NormalisedMaps",
    "NotApplicableError",
    "Occlusion",
    "OptiCam",
    "ParameterSpec",
    "RawAttention",
    "Recording",
    "Rise",
    "ScoreCam",
    "SmoothGrad",
    "SmoothGradCamPlusPlus",
    "SsCam",
    "Stepwise",
    "Targets",
    "Tibav",
    "TopK",
    "UnknownLayerError",
    "Watch",
    "XGradCam",
    "normalise",
    "parameter",
    "register",
    "specs",
    "upsample",
    "validate",
]
