"""One request, checked and decoded: what is computed is right, whatever a client sent."""

import time
from dataclasses import dataclass

from torch import Tensor

from explainers import ExplainerError, Method, Network, Targets
from handlers.content import content_digest
from handlers.converters import Output, to_deadline, to_method, to_output, to_targets
from handlers.errors import from_explainer
from handlers.images import DecodedImage, decode
from handlers.line import Line
from handlers.loading import LoadedModel
from handlers.metrics import Quality, to_quality
from handlers.preprocess import Geometry, geometry, to_size, to_tensor
from handlers.settings import Limits
from protos.worker.v1 import worker_pb2


@dataclass(frozen=True)
class Job:
    """One item of a batch.

    Attributes:
        request_id: for the log.
        deadline: Unix time after which nobody waits.
        method: with every parameter resolved; None for a prediction.
        targets: the classes to explain; not looked at in predictions.
        top_k: how many classes to return.
        output: what to send besides the numbers.
        quality: what to find out about each explanation.
        image: as it was decoded.
        plan: how `image` became `pixels`.
        pixels: shape (3, height, width), float32 in [0, 1].
        content: digest of what the answer depends on in the image.
        decode_began: Unix time in nanoseconds at which decoding began.
        decode_seconds: what decoding, preprocessing and the digest took.
        allow_partial: to be stopped shortly before the deadline, rather than to be late.
        line: to the service, for progress and to learn that nobody waits any more.
    """

    request_id: str
    deadline: float
    method: Method | None
    targets: Targets
    top_k: int
    output: Output
    quality: Quality
    image: DecodedImage
    plan: Geometry
    pixels: Tensor
    content: bytes
    decode_began: int
    decode_seconds: float
    allow_partial: bool
    line: Line


def prepare(request: worker_pb2.WorkRequest, model: LoadedModel, limits: Limits) -> Job:
    """Check everything that can be wrong with an item before it meets its neighbours.

    Raises:
        WorkError: a field or the image is not acceptable, or the method does not work on this network.
    """
    work = request.image
    method = _method(work, model.network)
    targets = to_targets(work, model.network.class_count)
    output = to_output(work.output)
    quality = to_quality(work.quality, model.network)
    began, started = time.time_ns(), time.perf_counter()
    image = decode(work.image, limits)
    plan = geometry((image.pixels.height, image.pixels.width), model.document.preprocessing)
    seen = to_size(image.pixels, plan, model.document.preprocessing)
    return Job(
        request_id=request.request_id,
        deadline=to_deadline(request),
        method=method,
        targets=targets,
        top_k=work.top_k,
        output=output,
        quality=quality,
        image=image,
        plan=plan,
        pixels=to_tensor(seen),
        content=content_digest(image.pixels, seen, drawn=output.overlay_png),
        decode_began=began,
        decode_seconds=time.perf_counter() - started,
        allow_partial=work.allow_partial,
        line=Line(request.following),
    )


def _method(work: worker_pb2.ImageWork, network: Network) -> Method | None:
    """The method with every parameter resolved, so that a default and the same value written out share a batch."""
    if not work.HasField("method"):
        return None
    method = to_method(work.method)
    try:
        return method.resolve(network)
    except ExplainerError as error:
        raise from_explainer(error, method.name) from None
