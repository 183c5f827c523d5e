"""What the clients ask: mixed models, methods, targets and images, each with the answer that it should get."""

import copy
import io
import itertools
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from PIL import Image

from model_store.digits.samples import SAMPLES_FOLDER
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import types_pb2
from service.client import Client, build_method, build_targets

Request: TypeAlias = api.PredictRequest | api.ExplainRequest | api.StreamExplainRequest
Response: TypeAlias = api.PredictResponse | api.ExplainResponse

# Methods that take passes take this many here: load is of many requests, not of long ones.
PASSES = 8
_PASSES_PARAMETERS = ("steps", "samples")
_QUICK = 0.5  # seconds
STREAMED = 3  # of so many explanations one is asked for as a stream
# Some hundred passes whatever one asks for; they have their place in benchmarks/methods.py.
ALWAYS_SLOW = ("score_cam", "ss_cam", "ablation_cam", "occlusion", "attention_flow", "extremal_perturbation")


@dataclass(frozen=True)
class Question:
    """A request.

    Attributes:
        name: model, method and number, for reports.
        request: to send.
        lane: that does the work.
        answer: what came back when it was asked alone; for a stream, what Explain answered.
        seconds: how long that took.
    """

    name: str
    request: Request
    lane: "types_pb2.Lane" = types_pb2.LANE_UNSPECIFIED
    answer: Response | None = None
    seconds: float = 0.0

    @property
    def model(self) -> str:
        """Name of the model that is asked."""
        return str(self.asked.model)

    @property
    def asked(self) -> api.PredictRequest | api.ExplainRequest:
        """The request, without the stream around it."""
        return self.request.request if isinstance(self.request, api.StreamExplainRequest) else self.request


def images() -> list[bytes]:
    """The default models' photographs with digits, as JPEG and as PNG."""
    names = [sample["image"] for sample in json.loads((SAMPLES_FOLDER / "samples.json").read_text())]
    jpegs = [(SAMPLES_FOLDER / name).read_bytes() for name in names]
    return [encoded for jpeg in jpegs for encoded in (jpeg, _png(jpeg))]


def mixed(client: Client, *, variants: int = 1) -> list[Question]:
    """Predictions, and explanations by each method that is not always slow, for each model.

    Args:
        client: to ask which models and methods there are.
        variants: requests of each kind; images, targets and sizes take turns.
    """
    pictures, targets, sizes = itertools.cycle(images()), itertools.cycle(_targets()), itertools.cycle(_sizes())
    questions = []
    for model in [model.name for model in client.models()]:
        methods = [info for info in client.methods(model) if info.name not in ALWAYS_SLOW]
        for _ in range(variants):
            request = api.PredictRequest(model=model, image=next(pictures))
            questions.append(Question(f"{model} prediction", request, types_pb2.LANE_PREDICT))
            for info in methods:
                explain = api.ExplainRequest(
                    model=model,
                    image=next(pictures),
                    method=build_method(info.name, few_passes(info)),
                    targets=next(targets),
                    output=api.OutputOptions(resolution=next(sizes)),
                )
                questions.append(Question(f"{model} {info.name}", explain, info.lane))
    return questions


def prediction(model: str) -> Question:
    """The prediction of one image."""
    return Question(f"{model} prediction", api.PredictRequest(model=model, image=images()[0]))


def explanation(model: str, method: str, *parameters: str) -> Question:
    """The explanation of one image by a method with "name=value" parameters."""
    request = api.ExplainRequest(model=model, image=images()[0], method=build_method(method, parameters))
    return Question(f"{model} {method}", request)


def answered_alone(client: Client, questions: Sequence[Question]) -> list[Question]:
    """The questions with the answers that a client gets who asks one after the other, without the cache."""
    answered = []
    for each in questions:
        began = time.perf_counter()
        answer = ask(client, uncached(each))
        answered.append(replace(each, answer=answer, seconds=time.perf_counter() - began))
    return answered


def partly_streamed(questions: Sequence[Question]) -> list[Question]:
    """The same, with every third explanation asked for as a stream."""
    explanations = itertools.count()
    return [
        replace(each, request=api.StreamExplainRequest(request=each.request))
        if isinstance(each.request, api.ExplainRequest) and next(explanations) % STREAMED == 0
        else each
        for each in questions
    ]


def partly_uncached(questions: Sequence[Question]) -> list[Question]:
    """The same, with every second one to be computed for this request alone."""
    return [uncached(each) if number % 2 else each for number, each in enumerate(questions)]


def uncached(question: Question) -> Question:
    """The same, to be computed for this request alone."""
    changed = replace(question, request=copy.deepcopy(question.request))
    changed.asked.no_cache = True
    return changed


def quick(questions: Sequence[Question]) -> list[Question]:
    """Those that took less than half a second alone: with clients of short deadlines the others would only be late."""
    return [each for each in questions if each.seconds < _QUICK]


def ask(client: Client, question: Question) -> Response:
    """Ask once, without a stream."""
    asked = question.asked
    return client.predict(asked) if isinstance(asked, api.PredictRequest) else client.explain(asked)


def few_passes(info: types_pb2.MethodInfo) -> list[str]:
    """The parameters by which a method takes few passes."""
    return [
        f"{parameter.name}={max(PASSES, int(parameter.minimum))}"
        for parameter in info.parameters
        if parameter.name in _PASSES_PARAMETERS
    ]


def _targets() -> Iterator[api.Targets | None]:
    yield build_targets([], 1)
    yield build_targets(["3"], None)
    yield build_targets([], 3)
    yield build_targets(["0", "7"], None)
    yield None  # the predicted class


def _sizes() -> "tuple[types_pb2.MapResolution, ...]":
    return types_pb2.MAP_RESOLUTION_UNSPECIFIED, types_pb2.MAP_RESOLUTION_INPUT, types_pb2.MAP_RESOLUTION_NATIVE


def _png(encoded: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(encoded)).convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()
