"""What each precision leaves of an answer."""

import random
import struct
from pathlib import Path

import grpc
import pytest
from google.longrunning import operations_pb2

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import job_pb2, quality_pb2, types_pb2
from protos.worker.v1 import worker_pb2
from service.converters.saliency import map_values, quantise
from service.identity.caller import Precision
from service.identity.precision import reduce
from tests.service.fakes import MODEL, front, prediction
from tests.service.identity.people import bearer, entry, write_clients
from tests.service.test_front import IMAGE, details, explain, refused

VALUES = (0.0, 0.1234567, 1 / 3, 0.5, 0.7071068, 1.0)
PROBABILITY = 0.123456789


def saliency(values: tuple[float, ...], low: float = 0.0, high: float = 1.0) -> types_pb2.SaliencyMap:
    """A map with one row."""
    return types_pb2.SaliencyMap(
        values=types_pb2.Tensor(
            data_type=types_pb2.DATA_TYPE_FLOAT32,
            shape=(1, len(values)),
            data=struct.pack(f"<{len(values)}f", *values),
        ),
        minimum=low,
        maximum=high,
        raw_minimum=-3.0,
        raw_maximum=7.0,
        native_height=1,
        native_width=len(values),
    )


def precise(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
    """An answer with something of everything in it."""
    response = prediction(request)
    response.image.predictions[0].probability = PROBABILITY
    for explanation in response.image.explanations:
        explanation.target.logit = 2.5
        explanation.target.probability = PROBABILITY
        explanation.map.CopyFrom(saliency(VALUES))
        explanation.quality.append(quality_pb2.QualityFigure(metric="insertion", value=0.0123456789))
        explanation.quality.append(quality_pb2.QualityFigure(metric="deletion"))
        explanation.map_png = explanation.overlay_png = b"picture"
    return response


def rounded(values: tuple[float, ...], largest: int) -> list[float]:
    """The definition: the nearest of `largest` + 1 even steps."""
    return [round(value * largest) / largest for value in values]


TIERS = [
    ("coarse", types_pb2.DATA_TYPE_UINT8, 1, 0.12, 0.012, rounded(VALUES, 255)),
    ("standard", types_pb2.DATA_TYPE_UINT16, 2, 0.1235, 0.01235, rounded(VALUES, 65535)),
    ("full", types_pb2.DATA_TYPE_FLOAT32, 4, PROBABILITY, 0.0123456789, list(VALUES)),
]


@pytest.mark.parametrize(("tier", "data_type", "size", "probability", "figure", "values"), TIERS)
async def test_each_tier_answers_as_the_api_says(
    tier: str, data_type: int, size: int, probability: float, figure: float, values: list[float], tmp_path: Path
) -> None:
    """Maps, scores and figures are rounded as the proto says, and provenance names the tier."""
    path = write_clients(tmp_path / "clients.toml", entry("a", "explain", precision=tier))
    async with front(clients_file=path) as service:
        service.worker.answer = precise
        targets = api.Targets(classes=api.ClassList(classes=[api.ClassReference(index=1)]))
        response = await service.stub.Explain(explain(targets=targets), metadata=bearer("a"))
        prediction_only = await service.stub.Predict(api.PredictRequest(model=MODEL, image=IMAGE), metadata=bearer("a"))
    full = tier == "full"
    named = types_pb2.Precision.Value(f"PRECISION_{tier.upper()}")
    assert response.provenance.precision == prediction_only.provenance.precision == named
    explanation = response.explanations[0]
    assert explanation.map.values.data_type == data_type
    assert len(explanation.map.values.data) == size * len(VALUES)
    assert list(map_values(explanation.map)) == pytest.approx(values, abs=1e-7)
    assert (explanation.map.raw_minimum, explanation.map.raw_maximum) == ((-3.0, 7.0) if full else (0.0, 0.0))
    for score, logit in (
        (response.predictions[0], 2.0), (prediction_only.predictions[0], 2.0), (explanation.target, 2.5),
    ):  # fmt: skip
        assert score.probability == pytest.approx(probability, abs=1e-8)
        assert score.logit == (logit if full else 0.0)
    assert explanation.quality[0].value == figure
    assert not explanation.quality[1].HasField("value")
    assert explanation.overlay_png == explanation.map_png == (b"" if tier == "coarse" else b"picture")


async def test_answers_are_full_where_identity_is_off() -> None:
    """On loopback without a clients file nothing is rounded, and provenance says so."""
    async with front() as service:
        response = await service.stub.Predict(api.PredictRequest(model=MODEL, image=IMAGE))
        assert response.provenance.precision == types_pb2.PRECISION_FULL
        assert response.predictions[0].logit == 2.0


@pytest.mark.parametrize(
    "output",
    [{"map_png": True}, {"overlay_png": True}, {"resolution": types_pb2.MAP_RESOLUTION_INPUT}],
    ids=lambda output: next(iter(output)),
)
async def test_coarse_refuses_what_would_show_more_than_its_maps(output: dict[str, int], tmp_path: Path) -> None:
    """Pictures and interpolated maps are PERMISSION_DENIED before a worker is asked; standard has them."""
    path = write_clients(tmp_path / "clients.toml", entry("a", "explain", precision="coarse"), entry("b", "explain"))
    async with front(clients_file=path) as service:
        request = explain(output=api.OutputOptions(**output))
        error = await refused(service.stub.Explain(request, metadata=bearer("a")))
        assert error.code() is grpc.StatusCode.PERMISSION_DENIED
        assert details(error)["ErrorInfo"].reason == "PRECISION_TOO_LOW"  # type: ignore[attr-defined]
        assert service.worker.requests == []
        await service.stub.Explain(request, metadata=bearer("b"))


async def test_a_large_answer_is_rounded_like_a_small_one(tmp_path: Path) -> None:
    """Maps of 224 x 224 for several classes take the way beside the event loop, and come out the same."""
    chance = random.Random(0)
    values = tuple(chance.randrange(2**20) / 2**20 for _ in range(224 * 224))  # float32 has them exactly

    def answer(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
        response = prediction(request)
        for explanation in response.image.explanations:
            explanation.map.CopyFrom(saliency(values))
        return response

    path = write_clients(tmp_path / "clients.toml", entry("a", "explain", precision="standard"))
    async with front(clients_file=path) as service:
        service.worker.answer = answer
        classes = api.ClassList(classes=[api.ClassReference(index=index) for index in (0, 1)])
        request = explain(targets=api.Targets(classes=classes))
        response = await service.stub.Explain(request, metadata=bearer("a"))
    for explanation in response.explanations:
        assert list(map_values(explanation.map)) == pytest.approx(rounded(values, 65535), abs=1e-7)


def test_a_map_in_another_range_keeps_its_ends() -> None:
    """The codes span the map's own minimum and maximum."""
    quantised = saliency((-1.0, 0.5, 3.0), low=-1.0, high=3.0)
    quantise(quantised, types_pb2.DATA_TYPE_UINT8)
    assert list(quantised.values.data) == [0, 96, 255]
    assert list(map_values(quantised)) == pytest.approx([-1.0, -1.0 + 96 / 255 * 4, 3.0])


@pytest.mark.parametrize("value", [1.01, -0.01, float("nan"), float("inf")])
def test_a_value_outside_of_the_range_is_a_fault_and_not_another_value(value: float) -> None:
    """It never wraps around."""
    with pytest.raises(ValueError, match="not within its range"):
        quantise(saliency((value,)), types_pb2.DATA_TYPE_UINT8)


def test_a_rounded_map_is_not_rounded_again() -> None:
    """Codes are no values."""
    quantised = saliency(VALUES)
    quantise(quantised, types_pb2.DATA_TYPE_UINT16)
    with pytest.raises(ValueError, match="float32"):
        quantise(quantised, types_pb2.DATA_TYPE_UINT8)


def test_an_unknown_data_type_is_said_to_the_reader() -> None:
    """A client that is older than the service does not show nonsense."""
    unknown = saliency(VALUES)
    unknown.values.data_type = 99
    with pytest.raises(ValueError, match="unknown data type"):
        map_values(unknown)


def test_a_packed_answer_is_rounded_too() -> None:
    """Within an operation; what is interpolated is left out where it could not be asked for."""
    answer = api.ExplainResponse(predictions=[types_pb2.ClassScore(logit=2.0, probability=PROBABILITY)])
    answer.explanations.add(map=saliency(VALUES), overlay_png=b"picture")
    interpolated = saliency(VALUES)
    interpolated.native_width = 2
    answer.explanations.add(map=interpolated)
    metadata = job_pb2.ExplanationJobMetadata(objective=0.123456789)
    operation = operations_pb2.Operation(name="operations/1", done=True)
    operation.response.Pack(answer)
    operation.metadata.Pack(metadata)
    reduce(operation, Precision.COARSE)
    assert operation.response.Unpack(answer)
    assert operation.metadata.Unpack(metadata)
    assert (answer.predictions[0].logit, round(answer.predictions[0].probability, 6)) == (0.0, 0.12)
    assert answer.explanations[0].map.values.data_type == types_pb2.DATA_TYPE_UINT8
    assert not answer.explanations[0].overlay_png
    assert not answer.explanations[1].map.HasField("values")
    assert not metadata.HasField("objective")
