"""Changed requests of the Open Inference Protocol: each is understood, or refused as one of the client's mistakes."""

import contextlib
import random

from protos.inference import inference_service_pb2 as oip
from service.errors import InvalidRequestError
from service.inference.images import Limits
from service.inference.question import to_question
from tests.fuzz.mutations import Mutator
from tests.fuzz.requests import IMAGES, METHODS, WORDS
from tests.service.inference.asking import packed, parameter

MESSAGES = 3000
NAMES = ("target", "target_top_k", "quality", "compare_with", "resolution", "layer", "steps", "noise",
         "explain", "method", "top_k", "timeout", "priority", "further_layers", "quality.insertion.steps",
         "other")  # fmt: skip
OUTPUTS = ("saliency", "labels", "logits", "quality.insertion", "overlay_png", "other")


def valid(source: random.Random) -> oip.ModelInferRequest:
    """Encoded images or pixels, raw or typed, with some parameters and outputs."""
    count, raw = source.choice((1, 1, 3)), source.random() < 0.5
    images, pixels = source.choices(IMAGES, k=count), source.randbytes(12 * count)
    tensor = {"name": "image", "datatype": "BYTES", "shape": [count]}
    request = oip.ModelInferRequest(model_name="tiny", inputs=[tensor])
    if encoded := source.random() < 0.5:
        contents = oip.InferTensorContents(bytes_contents=images)
    else:
        request.inputs[0].datatype, request.inputs[0].shape[:] = "UINT8", [count, 2, 2, 3]
        contents = oip.InferTensorContents(uint_contents=pixels)
    if raw:
        request.raw_input_contents.append(packed(*images) if encoded else pixels)
    else:
        request.inputs[0].contents.CopyFrom(contents)
    for name in source.sample(NAMES, source.randrange(3)):
        value = source.choice((True, 1, -1, 2**62, 0.5, float("nan"), *METHODS, *WORDS))
        request.parameters[name].CopyFrom(parameter(value))
    for name in source.sample(OUTPUTS, source.randrange(3)):
        request.outputs.add(name=name)
    return request


def test_whatever_is_changed_nothing_but_the_client_is_to_blame() -> None:
    """No other error than InvalidRequestError; and not everything is refused."""
    understood = 0
    for number in range(MESSAGES):
        source = random.Random(f"inference {number}")
        request = valid(source)
        for _ in range(source.randrange(3)):
            Mutator(source, WORDS, IMAGES).mutate(request)
        with contextlib.suppress(InvalidRequestError):
            to_question(request, Limits(images=4, image_bytes=10_000))
            understood += 1
    assert MESSAGES // 10 < understood < MESSAGES * 9 // 10
