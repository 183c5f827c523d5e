"""LOW_CONFIDENCE follows the model's activation."""

import pytest

from protos.explain.v1 import types_pb2
from protos.worker.v1 import worker_pb2
from service.catalog import DeployedModel
from service.converters.from_result import to_explain_response, to_predict_response
from service.observation import Observation

SURE, UNSURE = (types_pb2.ClassScore(index=index, probability=p) for index, p in ((3, 0.9), (5, 0.2)))


def warned(activation: types_pb2.Activation, *targets: types_pb2.ClassScore) -> list[int | None]:
    """The classes of the warnings, None for one about the whole answer; of a prediction where there is no target."""
    model = DeployedModel("m", description=types_pb2.Model(name="m", activation=activation))
    result = worker_pb2.ImageResult(
        predictions=targets or [UNSURE], explanations=[types_pb2.Explanation(target=target) for target in targets]
    )
    observation = Observation("r-1", "Explain")
    convert = to_explain_response if targets else to_predict_response
    found = convert(result, model, observation).warnings
    assert all(warning.code == types_pb2.WARNING_CODE_LOW_CONFIDENCE for warning in found)
    return [warning.target_index if warning.HasField("target_index") else None for warning in found]


@pytest.mark.parametrize("activation", [types_pb2.ACTIVATION_SOFTMAX, types_pb2.ACTIVATION_UNSPECIFIED])
def test_softmax(activation: types_pb2.Activation) -> None:
    """The predicted class is improbable: the model is unsure of the whole answer."""
    assert warned(activation) == [None]
    assert warned(activation, UNSURE, SURE) == [None]
    assert warned(activation, SURE, UNSURE) == []


def test_sigmoid() -> None:
    """To find nothing is an answer; to explain a class that is not found is worth a warning of that class."""
    assert warned(types_pb2.ACTIVATION_SIGMOID) == []
    assert warned(types_pb2.ACTIVATION_SIGMOID, SURE, UNSURE) == [5]
