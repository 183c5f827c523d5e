"""What a user of KServe's client does, step by step; runs in the stock clients' own environment.

The arguments: address, name of a model, file of an image, class index to explain. Ends with an AssertionError, or well.
"""

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest
from kserve.protocol.infer_type import RequestedOutput


def raw(image: bytes) -> InferInput:
    tensor = InferInput("image", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([image], dtype=np.object_))
    return tensor


def typed(image: bytes) -> InferInput:
    return InferInput("image", [1], "BYTES", data=[image])


async def check(client: InferenceGRPCClient, model: str, tensor: InferInput, target: int) -> Any:
    request = InferRequest(
        model,
        [tensor],
        request_id="mine",
        parameters={"target": target, "quality": "average_drop"},
        request_outputs=[RequestedOutput(name) for name in ("probabilities", "saliency", "targets")],
    )
    answer = await client.infer(request)
    assert answer.id == "mine"
    names = [output.name for output in answer.outputs]
    assert names == ["probabilities", "saliency", "targets", "quality.average_drop"]
    assert answer.outputs[2].as_numpy().tolist() == [[target]]
    saliency = answer.outputs[1].as_numpy()
    assert saliency.dtype == np.float32
    assert saliency.ndim == 4
    return saliency


async def main(address: str, model: str, data: bytes, target: int) -> None:
    async with InferenceGRPCClient(address) as client:
        assert await client.is_server_live()
        assert await client.is_server_ready()
        assert await client.is_model_ready(model)
        first = await check(client, model, raw(data), target)
        second = await check(client, model, typed(data), target)
        assert np.array_equal(first, second)
        several = await client.infer(InferRequest(model, [InferInput("image", [2], "BYTES", data=[data, data])]))
        assert [output.shape[0] for output in several.outputs] == [2] * len(several.outputs)
        prediction = await client.infer(InferRequest(model, [typed(data)]))
        assert "saliency" not in [output.name for output in prediction.outputs]
        assert await code_of(client.is_model_ready("none")) is grpc.StatusCode.NOT_FOUND


async def code_of(call: Coroutine[Any, Any, object]) -> grpc.StatusCode | None:
    """The status of a call that fails."""
    try:
        await call
    except grpc.RpcError as error:
        return error.code()
    return None


if __name__ == "__main__":
    address, model, image, target = sys.argv[1:]
    asyncio.run(main(address, model, Path(image).read_bytes(), int(target)))
