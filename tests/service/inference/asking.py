"""Requests of the Open Inference Protocol, made by hand, and what comes back."""

import hashlib
import struct
from collections.abc import Mapping, Sequence
from typing import Any

from protos.explain.v1 import quality_pb2, types_pb2
from protos.inference import inference_service_pb2 as oip
from protos.inference import inference_service_pb2_grpc as oip_grpc
from protos.worker.v1 import worker_pb2
from tests.service.fakes import MODEL, Front, description, prediction
from tests.service.test_front import IMAGE

CODES = {"FP32": "f", "FP64": "d", "INT64": "q"}
VALUES = (0.0, 0.1234567, 1 / 3, 0.5, 0.7071068, 1.0)
PROBABILITY = 0.123456789
FIGURE = 0.0123456789
AFFINE = {"xx": 32.0, "x0": 1.0, "yy": 16.0, "y0": 2.0}


def parameter(value: bool | int | float | str) -> oip.InferParameter:
    """As stock clients send a value."""
    kinds = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
    return oip.InferParameter(**{kinds[type(value)]: value})


def packed(*elements: bytes) -> bytes:
    """The raw contents of a tensor of BYTES."""
    return b"".join(struct.pack("<I", len(each)) + each for each in elements)


def ask(
    *, raw: bool = True, parameters: Mapping[str, Any] | None = None, outputs: Sequence[Any] = (), **fields: Any
) -> oip.ModelInferRequest:
    """A request for one encoded image."""
    tensor: dict[str, Any] = {"name": "image", "datatype": "BYTES", "shape": [1]}
    contents: dict[str, Any] = {"raw_input_contents": [packed(IMAGE)]}
    if not raw:
        tensor["contents"], contents = {"bytes_contents": [IMAGE]}, {}
    return oip.ModelInferRequest(
        **{
            "model_name": MODEL,
            "inputs": [tensor],
            "parameters": {name: parameter(value) for name, value in (parameters or {}).items()},
            "outputs": [{"name": each} if isinstance(each, str) else each for each in outputs],
            **contents,
            **fields,
        }
    )


def stub_of(service: Front) -> oip_grpc.GRPCInferenceServiceStub:
    """The procedures."""
    return oip_grpc.GRPCInferenceServiceStub(service.channel)


def tensors(response: oip.ModelInferResponse) -> dict[str, tuple[str, list[int], list[Any]]]:
    """Datatype, shape and elements of each output, raw or typed, by its name."""
    found = {}
    for position, output in enumerate(response.outputs):
        if response.raw_output_contents:
            assert not output.HasField("contents")
            values = unpacked(output.datatype, response.raw_output_contents[position])
        else:
            filled = [list(content) for _, content in output.contents.ListFields()]
            assert len(filled) == 1
            values = filled[0]
        found[output.name] = (output.datatype, list(output.shape), values)
    return found


def unpacked(datatype: str, raw: bytes) -> list[Any]:
    """The elements of raw contents."""
    if datatype != "BYTES":
        return list(struct.unpack(f"<{len(raw) // struct.calcsize(CODES[datatype])}{CODES[datatype]}", raw))
    found = []
    while raw:
        (length,) = struct.unpack_from("<I", raw)
        found.append(raw[4 : 4 + length])
        raw = raw[4 + length :]
    return found


def whole(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
    """An answer with something of everything in it: maps of 2 x 3, one metric without a value, pictures, digests."""
    response = prediction(request)
    response.image.content_digest = hashlib.sha256(request.image.image).digest()
    response.image.weights_digest = description().model.weights_digest
    response.image.predictions[0].probability = PROBABILITY
    for explanation in response.image.explanations:
        explanation.target.probability = PROBABILITY
        explanation.target.logit = 2.5
        explanation.map.CopyFrom(
            types_pb2.SaliencyMap(
                values=types_pb2.Tensor(
                    data_type=types_pb2.DATA_TYPE_FLOAT32, shape=(2, 3), data=struct.pack("<6f", *VALUES)
                ),
                maximum=1.0,
                native_height=2,
                native_width=3,
                map_to_image=AFFINE,
            )
        )
        for choice in request.image.quality.metrics:
            value = FIGURE if choice.name == "average_drop" else None
            explanation.quality.append(quality_pb2.QualityFigure(metric=choice.name, value=value))
        explanation.map_png = explanation.overlay_png = b"picture"
    return response
