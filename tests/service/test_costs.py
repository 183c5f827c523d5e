"""What the service learns of the time that requests take."""

import pytest

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import method_pb2, quality_pb2
from service import costs
from service.commands import ExplainCommand, PredictCommand
from service.costs import Costs, Kind, default_kind, kind_of

KIND = Kind("cats")


def command(
    method: method_pb2.Method, classes: int = 1, *metrics: str, model: str = "cats", image: bytes = b"1"
) -> ExplainCommand:
    quality = quality_pb2.QualityOptions(metrics=[quality_pb2.MetricChoice(name=name) for name in metrics])
    return ExplainCommand(model, image, 5, method, (), classes, api.OutputOptions(), quality)


def rise(**parameters: int) -> method_pb2.Method:
    return method_pb2.Method(rise=method_pb2.Rise(**parameters))


def test_requests_are_of_one_kind_when_they_cost_the_same() -> None:
    """Model, method, parameters, number of classes and figures count; the image does not."""
    kind = kind_of(command(rise(samples=10)))
    assert kind == kind_of(command(rise(samples=10), image=b"2"))
    others = [
        command(rise(samples=11)),
        command(rise()),
        command(rise(samples=10), 2),
        command(rise(samples=10), 1, "insertion"),
        command(rise(samples=10), model="dogs"),
        PredictCommand("cats", b"1", 5),
    ]
    assert len({kind, *map(kind_of, others)}) == len(others) + 1


def test_what_is_listed_is_the_default() -> None:
    """One class, every parameter left out."""
    assert default_kind("cats", "rise") == kind_of(command(rise()))


def test_the_newest_counts_most_and_the_oldest_fades() -> None:
    """Nothing is known at first; then the mean follows what is measured."""
    known = Costs()
    assert known.expected(KIND) is None
    known.learn(KIND, 10.0)
    assert known.expected(KIND) == 10.0
    known.learn(KIND, 20.0)
    assert known.expected(KIND) == pytest.approx(12.0)
    for _ in range(50):
        known.learn(KIND, 1.0)
    assert known.expected(KIND) == pytest.approx(1.0, rel=0.01)


def test_one_slow_request_is_no_reason_to_refuse_the_next() -> None:
    """The least follows the quickest at once, and the slowest only when many of them come."""
    known = Costs()
    assert known.at_least(KIND) == 0
    for seconds in (10.0, 2.0, 100.0):
        known.learn(KIND, seconds)
    assert known.at_least(KIND) == pytest.approx(2.4)
    for _ in range(30):
        known.learn(KIND, 100.0)
    assert known.at_least(KIND) == 100.0


@pytest.mark.parametrize(("seconds", "believed"), [(0.01, 1.03), (5.0, 16.0), (500.0, 60.0)])
def test_the_least_is_believed_for_a_while_only(seconds: float, believed: float) -> None:
    """Then a request may try; the mean is still told."""
    now = [0.0]
    known = Costs(lambda: now[0])
    known.learn(KIND, seconds)
    now[0] = believed - 0.001
    assert known.at_least(KIND) == seconds
    now[0] = believed + 0.001
    assert known.at_least(KIND) == 0
    assert known.expected(KIND) == seconds


def test_what_was_given_up_takes_at_least_so_long() -> None:
    """A longer expectation stays, a shorter one is raised; both are believed again."""
    now = [0.0]
    known = Costs(lambda: now[0])
    known.learn_at_least(KIND, 5.0)
    now[0] = 100.0
    known.learn_at_least(KIND, 3.0)
    assert known.at_least(KIND) == 5.0
    known.learn_at_least(KIND, 8.0)
    assert known.at_least(KIND) == 8.0


def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients choose parameters: the kinds that were not seen for longest are forgotten."""
    monkeypatch.setattr(costs, "MOST", 3)
    known = Costs()
    for number in (1, 2, 3, 1, 4):
        known.learn(Kind("cats", bytes([number])), 1.0)
    assert [known.expected(Kind("cats", bytes([number]))) for number in (1, 2, 3, 4)] == [1.0, None, 1.0, 1.0]
