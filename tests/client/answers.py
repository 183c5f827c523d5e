"""Answers of the fake worker with something of everything in them, and the pictures that they are about."""

import numpy as np
from PIL import Image

from protos.explain.v1 import quality_pb2, types_pb2
from protos.worker.v1 import worker_pb2
from tests.service.fakes import prediction

WIDTH, HEIGHT = 40, 30
# What the network saw: the middle square of 20 pixels, on a grid of 2 x 2.
GRID = np.array([[0.0, 0.25], [0.5, 1.0]], np.float32)
TOP, LEFT, SIDE = 5, 10, 20


def picture() -> Image.Image:
    """An image of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    return Image.fromarray(pixels)


def saliency() -> types_pb2.SaliencyMap:
    """A map on the middle of the picture."""
    return types_pb2.SaliencyMap(
        values=types_pb2.Tensor(data_type=types_pb2.DATA_TYPE_FLOAT32, shape=GRID.shape, data=GRID.tobytes()),
        minimum=0,
        maximum=1,
        raw_minimum=-3,
        raw_maximum=7,
        native_height=2,
        native_width=2,
        map_to_image=types_pb2.AffineTransform(xx=SIDE / 2, x0=LEFT, yy=SIDE / 2, y0=TOP),
    )


def complete(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
    """A worker's answer for `picture()`."""
    response = prediction(request)
    response.image.image.CopyFrom(types_pb2.ImageInfo(width=WIDTH, height=HEIGHT, exif_orientation=1, format="PNG"))
    indices = request.image.class_indices or ([1] if request.image.HasField("method") else [])
    del response.image.explanations[:]
    for index in indices:
        explanation = response.image.explanations.add(map=saliency())
        explanation.target.CopyFrom(types_pb2.ClassScore(index=index, label="dog", logit=2.0, probability=0.9))
        for metric in request.image.quality.metrics:
            explanation.quality.append(_figure(metric))
    return response


def _figure(metric: quality_pb2.MetricChoice) -> quality_pb2.QualityFigure:
    return quality_pb2.QualityFigure(
        metric=metric.name,
        direction=quality_pb2.METRIC_DIRECTION_LOWER,
        unit="%",
        parameters=metric.parameters,
        value=12.5,
    )
