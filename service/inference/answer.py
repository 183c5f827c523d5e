"""From answers of explain.v1 to the tensors that were asked for."""

from collections.abc import Iterable, Sequence

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
    answers: Sequence[Answer], outputs: Iterable[str], precision: Precision, request_id: str, raw: bool
) -> oip.ModelInferResponse:
    """The answers at a precision: rounded first, so that no tensor holds more than explain.v1 would say.

    Args:
        answers: one for each image, as it was computed; they are rounded in place.
        outputs: names of the tensors.
        precision: of the client.
        request_id: the client's own.
        raw: whether the tensors are raw or typed.
    """
    for answer in answers:
        reduce(answer, precision)
    provenance = answers[0].provenance
    response = oip.ModelInferResponse(
        model_name=provenance.model, model_version=provenance.model_version, id=request_id
    )
    for name, text in _remarks(answers).items():
        response.parameters[name].string_param = text
    for name in outputs:
        wanted = output(name)
        if wanted is not None and (precision is Precision.FULL or not wanted.exact):
            add_output(response, name, wanted.tensor(answers), raw=raw)
    return response


def _remarks(answers: Sequence[Answer]) -> dict[str, str]:
    """What belongs to every answer and is no tensor; of several images, in their order."""
    origins = [MessageToJson(answer.provenance, preserving_proto_field_name=True, indent=None) for answer in answers]
    remarks = {
        "provenance": origins[0] if len(origins) == 1 else f"[{', '.join(origins)}]",
        "warnings": ";".join(map(_codes, answers)),
    }
    if isinstance(answers[0], api.ExplainResponse):
        remarks["interpretation"] = answers[0].interpretation
    return remarks


def _codes(answer: Answer) -> str:
    """The warnings of an answer, each once."""
    codes = (types_pb2.WarningCode.Name(each.code).removeprefix(_PREFIX) for each in answer.warnings)
    return ",".join(dict.fromkeys(codes))
