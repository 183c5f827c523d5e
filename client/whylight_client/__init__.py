"""Client of Whylight: predictions of image classifiers, and why, as NumPy arrays and Pillow images.

Examples:
    >>> from whylight_client import Client
    >>> with Client("127.0.0.1:50051") as client:
    ...     result = client.explain("photo.jpg", model="digits-cnn")
    >>> result.overlay().save("why.png")
"""

from whylight_client.aio import AsyncClient
from whylight_client.choices import ExplainOptions, Method, Metric, TopK
from whylight_client.client import Client
from whylight_client.descriptions import Layer, MethodInfo, MetricInfo, ModelInfo, ParameterInfo, SanityCheck
from whylight_client.errors import (
    AlreadyExistsError,
    CancelledError,
    DeadlineExceededError,
    FieldViolation,
    InternalError,
    InvalidRequestError,
    NoRoomError,
    NotApplicableError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
    WhylightError,
)
from whylight_client.events import Event, PredictionEvent, PreviewEvent, ProgressEvent, ResultEvent
from whylight_client.images import ImageLike
from whylight_client.jobs import AsyncJob, Job, JobStatus
from whylight_client.maps import Placement, SaliencyMap
from whylight_client.results import (
    ClassScore,
    ExplainResult,
    Explanation,
    ImageInfo,
    Partial,
    PredictResult,
    Provenance,
    QualityFigure,
    ResultWarning,
    Timings,
)

__all__ = [
    "AlreadyExistsError",
    "AsyncClient",
    "AsyncJob",
    "CancelledError",
    "ClassScore",
    "Client",
    "DeadlineExceededError",
    "Event",
    "ExplainOptions",
    "ExplainResult",
    "Explanation",
    "FieldViolation",
    "ImageInfo",
    "ImageLike",
    "InternalError",
    "InvalidRequestError",
    "Job",
    "JobStatus",
    "Layer",
    "Method",
    "MethodInfo",
    "Metric",
    "MetricInfo",
    "ModelInfo",
    "NoRoomError",
    "NotApplicableError",
    "NotFoundError",
    "ParameterInfo",
    "Partial",
    "PermissionDeniedError",
    "Placement",
    "PredictResult",
    "PredictionEvent",
    "PreviewEvent",
    "ProgressEvent",
    "Provenance",
    "QualityFigure",
    "ResultEvent",
    "ResultWarning",
    "SaliencyMap",
    "SanityCheck",
    "Timings",
    "TopK",
    "UnauthenticatedError",
    "UnavailableError",
    "WhylightError",
]
