"""Output tensors, and how they are put into an answer."""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass

from protos.inference import inference_service_pb2 as oip

# Datatype to the code of `struct` and the field of typed contents.
_ENCODINGS = {
    "FP32": ("f", "fp32_contents"),
    "FP64": ("d", "fp64_contents"),
    "INT64": ("q", "int64_contents"),
    "BYTES": ("", "bytes_contents"),
}


@dataclass(frozen=True)
class Tensor:
    """An output.

    Attributes:
        datatype: FP32, FP64, INT64 or BYTES.
        shape: of which each size is known.
        values: row-major; numbers, or bytes where the datatype is BYTES.
    """

    datatype: str
    shape: tuple[int, ...]
    values: Sequence[float] | Sequence[bytes]

    def __post_init__(self) -> None:
        if len(self.values) != math.prod(self.shape):
            raise ValueError(f"{len(self.values)} values have no shape {self.shape}")


def add_output(response: oip.ModelInferResponse, name: str, tensor: Tensor, *, raw: bool) -> None:
    """Put a tensor into an answer, whose other ones are all raw too, or all typed."""
    output = response.outputs.add(name=name, datatype=tensor.datatype, shape=tensor.shape)
    code, field = _ENCODINGS[tensor.datatype]
    if not raw:
        getattr(output.contents, field).extend(tensor.values)
    elif code:
        response.raw_output_contents.append(struct.pack(f"<{len(tensor.values)}{code}", *tensor.values))
    else:
        elements = [value for value in tensor.values if isinstance(value, bytes)]
        response.raw_output_contents.append(b"".join(struct.pack("<I", len(each)) + each for each in elements))
