"""From an answer of explain.v1 to the tensors that were asked for."""

from collections.abc import Iterable

from google.protobuf.json_format import MessageToJson

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import types_pb2
from protos.inference import inference_service_pb2 as oip
from service.identity.caller import Precision
from service.identity.precision import reduce
from service.inference.outputs import Answer, output
from service.inference.tensors import add_output

_PREFIX = "WARNING_CODE_"


def to_infer_response(
    answer: Answer, outputs: Iterable[str], precision: Precision, request_id: str, raw: bool
) -> oip.ModelInferResponse:
    """The answer at a precision: rounded first, so that no tensor holds more than explain.v1 would say.

    Args:
        answer: as it was computed; it is rounded in place.
        outputs: names of the tensors.
        precision: of the client.
        request_id: the client's own.
        raw: whether the tensors are raw or typed.
    """
    reduce(answer, precision)
    provenance = answer.provenance
    response = oip.ModelInferResponse(
        model_name=provenance.model, model_version=provenance.model_version, id=request_id
    )
    for name, text in _remarks(answer).items():
        response.parameters[name].string_param = text
    for name in outputs:
        wanted = output(name)
        if wanted is not None and (precision is Precision.FULL or not wanted.exact):
            add_output(response, name, wanted.tensor(answer), raw=raw)
    return response


def _remarks(answer: Answer) -> dict[str, str]:
    """What belongs to every answer and is no tensor."""
    codes = dict.fromkeys(types_pb2.WarningCode.Name(each.code).removeprefix(_PREFIX) for each in answer.warnings)
    remarks = {
        "provenance": MessageToJson(answer.provenance, preserving_proto_field_name=True, indent=None),
        "warnings": ",".join(codes),
    }
    if isinstance(answer, api.ExplainResponse):
        remarks["interpretation"] = answer.interpretation
    return remarks
