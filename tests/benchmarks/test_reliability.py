"""The judgement of the reliability harness: it sees what is wrong."""

import math
import struct
from pathlib import Path

import pytest

from benchmarks.reliability.account import account
from benchmarks.reliability.answers import difference
from benchmarks.reliability.calls import Call, End, result_of
from benchmarks.reliability.questions import Question
from benchmarks.reliability.soak import count_trend, memory_trend
from benchmarks.reliability.tables import fill
from protos.explain.v1 import explanation_service_pb2 as api


def response(*values: float, target: int = 1, probability: float = 0.5) -> api.ExplainResponse:
    tensor = {"shape": [len(values)], "data": struct.pack(f"<{len(values)}f", *values)}
    return api.ExplainResponse(
        predictions=[{"index": 1, "probability": probability}],
        explanations=[{"target": {"index": target}, "map": {"values": tensor}}],
    )


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (response(0.0, 1.0), 0.0),
        (response(0.0, 0.75), 0.25),
        (response(0.0, 1.0, probability=0.75), 0.25),
        (response(0.0, math.nan), math.inf),
        (response(0.0, 1.0, target=2), math.inf),
        (response(0.0, 1.0, 1.0), math.inf),
        (api.PredictResponse(), math.inf),
    ],
    ids=["same", "map", "probability", "nan", "target", "shape", "kind"],
)
def test_the_difference_of_answers(answer: api.ExplainResponse, expected: float) -> None:
    """Numbers differ by a number; whatever else differs, differs infinitely."""
    assert difference(answer, response(0.0, 1.0)) == expected


def call(number: int, end: End = End.RIGHT) -> Call:
    return Call(f"{number:032x}", Question("q", api.ExplainRequest()), end, "OK", "", 0.0, 1.0)


def line(number: int, rpc: str = "Explain") -> str:
    return f"INFO service.interceptors {number:032x} {rpc} client= model=m method=g code=OK seconds=0.1000\n"


def test_the_account_finds_what_is_doubled_unseen_and_wrong() -> None:
    """Each call has one line in the service's log, and each wrong end counts."""
    assert account([call(1), call(2)], line(1) + line(2)).failures() == 0
    for rpc in ("Predict", "StreamExplain", "CreateExplanationJob"):
        assert account([call(1)], line(1, rpc)).failures() == 0
    assert account([call(1)], line(1) + line(1)).doubled == 1
    assert account([call(1)], line(2)).unseen == 1
    for end in (End.WRONG, End.UNTYPED, End.LOST):
        assert account([call(1, end)], line(1)).failures() == 1
    away = account([call(1, End.DISCONNECTED)], "")
    assert (away.failures(), away.failures(gone=True)) == (1, 0)


def test_growth_is_not_flat() -> None:
    """A line that rises is seen, and noise around a level is not."""
    assert count_trend([20, 21, 20, 21, 20, 21]).flat
    assert not count_trend([20, 21, 22, 23, 24, 25]).flat
    assert memory_trend([100e6, 101e6, 100e6, 101e6]).flat
    assert not memory_trend([100e6, 103e6, 106e6, 109e6]).flat


def test_a_section_is_filled_and_the_others_stay(tmp_path: Path) -> None:
    """Only what is between the section's marks is replaced, whatever it holds; an unknown section is refused."""
    document = tmp_path / "document.md"
    document.write_text(
        "a\n<!-- one: begin -->\nold\n<!-- one: end -->\n<!-- two: begin -->\nkept\n<!-- two: end -->\n"
    )
    fill(document, "one", r"new \1")
    assert "old" not in document.read_text()
    assert "\nnew \\1\n" in document.read_text()
    assert "kept" in document.read_text()
    with pytest.raises(ValueError, match="three"):
        fill(document, "three", "text")


PREDICTION = api.StreamExplainResponse(prediction={"predictions": [{"index": 1}]})
PREVIEW = api.StreamExplainResponse(preview={})
PROGRESS = api.StreamExplainResponse(progress={"step": 1})
RESULT = api.StreamExplainResponse(result={"predictions": [{"index": 1}], "provenance": {"request_id": "r"}})


@pytest.mark.parametrize(
    "events",
    [[PREDICTION, RESULT], [PREDICTION, PREVIEW, RESULT], [PREDICTION, PREVIEW, PROGRESS, PROGRESS, RESULT]],
)
def test_a_stream_in_order_has_a_result(events: list[api.StreamExplainResponse]) -> None:
    """What may be left out may be left out."""
    assert result_of(events) == RESULT.result


@pytest.mark.parametrize(
    "events",
    [
        [],
        [RESULT],
        [PREDICTION],
        [PREDICTION, PROGRESS, PREVIEW, RESULT],
        [PREDICTION, RESULT, RESULT],
        [api.StreamExplainResponse(prediction={"predictions": [{"index": 2}]}), RESULT],
    ],
    ids=["nothing", "no prediction", "no result", "late preview", "two results", "another prediction"],
)
def test_a_stream_out_of_order_has_nobodys_result(events: list[api.StreamExplainResponse]) -> None:
    """Its request id is nobody's, so that it counts as wrong."""
    assert result_of(events).provenance.request_id == ""
