"""What was computed for one item to the message that answers it, pictures included."""

import time
from dataclasses import dataclass

from PIL import Image

from explainers import Explanation, ImageResult, upsample
from handlers.assess import Assessment
from handlers.batch import Computed
from handlers.converters import from_map, from_method, from_scores, from_seconds, most_probable
from handlers.jobs import Job
from handlers.loading import LoadedModel
from handlers.preprocess import Affine
from handlers.render import map_png, overlay_png, render_size, warp
from protos.explain.v1 import types_pb2
from protos.worker.v1 import worker_pb2


@dataclass(frozen=True)
class _Picture:
    """The canvas for the pictures of one image.

    Attributes:
        image: the upright image in the size of the pictures.
        to_picture: from coordinates of the network's input to pixels of `image`.
    """

    image: Image.Image
    to_picture: Affine


def answer(
    job: Job, computed: Computed, assessment: Assessment, model: LoadedModel, max_render_side: int
) -> worker_pb2.ImageResult:
    """The result of one item; the time in the handler is left for later."""
    began, started = time.time_ns(), time.perf_counter()
    result = computed.result
    image = job.image.pixels
    to_image = job.plan.to_image((image.height, image.width))
    picture = _picture(job, max_render_side) if job.output.map_png or job.output.overlay_png else None
    message = worker_pb2.ImageResult(
        predictions=_scores(result, most_probable(result.logits, job.top_k), model),
        explanations=[_explanation(item, job, computed, model, to_image, picture) for item in result.explanations],
        image=types_pb2.ImageInfo(
            width=image.width, height=image.height, exif_orientation=job.image.orientation, format=job.image.format
        ),
        decode=from_seconds(job.decode_seconds),
        compute=from_seconds(computed.seconds),
        quality=from_seconds(assessment.seconds),
        warnings=assessment.warnings,
        content_digest=job.content,
        weights_digest=model.document.weights_digest,
        arithmetic=computed.way.arithmetic,
        runtime=computed.way.runtime,
        began={
            "decode": job.decode_began,
            "compute": computed.began,
            "quality": assessment.began,
            "render": began,
        },
    )
    if computed.partial is not None:
        _mark_partial(message, *computed.partial)
    for explanation, figures in zip(message.explanations, assessment.figures, strict=True):
        explanation.quality.extend(figures)
    if job.method is not None:
        message.resolved_method.CopyFrom(from_method(job.method))
        message.target_layer = job.method.target_layer(model.network)
    message.render.CopyFrom(from_seconds(time.perf_counter() - started))
    return message


def _scores(result: ImageResult, indices: list[int], model: LoadedModel) -> list[types_pb2.ClassScore]:
    return from_scores(result.logits, indices, model.document.labels, model.network.activation)


def _mark_partial(message: worker_pb2.ImageResult, step: int, steps: int) -> None:
    text = f"The deadline came before the last step: the map is what there was after {step} of {steps} steps."
    for explanation in message.explanations:
        explanation.partial.CopyFrom(types_pb2.Partial(step=step, steps=steps))
        message.warnings.add(code=types_pb2.WARNING_CODE_PARTIAL, message=text, target_index=explanation.target.index)


def _explanation(
    item: Explanation,
    job: Job,
    computed: Computed,
    model: LoadedModel,
    to_image: Affine,
    picture: _Picture | None,
) -> types_pb2.Explanation:
    values = upsample(item.map, job.plan.size) if job.output.input_resolution else item.map
    grid = (values.shape[0], values.shape[1])
    message = types_pb2.Explanation(
        target=_scores(computed.result, [item.target], model)[0],
        map=from_map(item, values, to_image.after_grid(grid, job.plan.size), job.output.input_resolution),
    )
    if picture is not None and not item.degenerate:
        _draw(message, item, job, picture)
    return message


def _draw(message: types_pb2.Explanation, item: Explanation, job: Job, picture: _Picture) -> None:
    size = (picture.image.height, picture.image.width)
    native = (item.map.shape[0], item.map.shape[1])
    warped = warp(item.map.numpy(), picture.to_picture.after_grid(native, job.plan.size), size)
    if job.output.map_png:
        message.map_png = map_png(warped, size)
    if job.output.overlay_png:
        message.overlay_png = overlay_png(picture.image, warped, job.output.color_map, job.output.opacity)


def _picture(job: Job, longest: int) -> _Picture:
    """Scale the image once, however many targets are drawn on it."""
    image = job.image.pixels
    height, width = render_size(image.height, image.width, longest)
    if (height, width) != (image.height, image.width):
        image = image.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
    return _Picture(image, job.plan.to_image((height, width)))
