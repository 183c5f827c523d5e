"""What a user of NVIDIA's `tritonclient` does, step by step; runs in the stock clients' own environment.

The arguments: address, name of a model, file of an image, class index to explain. Ends with an AssertionError, or well.
"""

import sys
from pathlib import Path

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException


def encoded(path: str) -> InferInput:
    data = np.array([Path(path).read_bytes()], dtype=np.object_)
    return InferInput("image", [1], "BYTES").set_data_from_numpy(data)


def look_around(client: InferenceServerClient, model: str) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(model)
    assert "parameters" in client.get_server_metadata().extensions
    index = client.get_model_repository_index().models
    assert [each.state for each in index if each.name == model] == ["READY"]
    metadata = client.get_model_metadata(model)
    assert [each.name for each in metadata.inputs] == ["image"]
    assert "saliency" in [each.name for each in metadata.outputs]


def check_saliency(answer: InferResult, target: int) -> None:
    saliency = answer.as_numpy("saliency")
    assert saliency.dtype == np.float32
    assert saliency.shape[:2] == (1, 1)
    assert saliency.ndim == 4
    assert saliency.min() >= 0
    assert saliency.max() <= 1
    assert answer.as_numpy("targets").tolist() == [[target]]


def main(address: str, model: str, image: str, target: int) -> None:
    client = InferenceServerClient(address)
    look_around(client, model)

    prediction = client.infer(model, [encoded(image)], request_id="mine", timeout=20_000_000, priority=1)
    assert prediction.get_response().id == "mine"
    assert prediction.as_numpy("saliency") is None
    shape = prediction.as_numpy("probabilities").shape
    assert prediction.as_numpy("classes").dtype == np.int64
    assert prediction.as_numpy("labels").shape == shape

    outputs = [InferRequestedOutput(name) for name in ("saliency", "targets")]
    check_saliency(client.infer(model, [encoded(image)], outputs=outputs, parameters={"target": target}), target)

    parameters = {"explain": True, "target": target, "method": "grad_cam", "quality": "average_drop"}
    answer = client.infer(model, [encoded(image)], parameters=parameters)
    check_saliency(answer, target)
    assert answer.as_numpy("quality.average_drop").shape == (1, 1)

    pixels = np.zeros((8, 6, 3), np.uint8)
    client.infer(model, [InferInput("image", [8, 6, 3], "UINT8").set_data_from_numpy(pixels)])
    check_batches(client, model, image)

    error = refused(client, model, encoded(image), {"explain": True, "method": "none"})
    assert error.status() == "StatusCode.INVALID_ARGUMENT"
    assert "parameters.method names no method" in error.message()


def check_batches(client: InferenceServerClient, model: str, path: str) -> None:
    photos = np.array([Path(path).read_bytes()] * 3, dtype=np.object_)
    outputs = [InferRequestedOutput(name) for name in ("labels", "saliency", "map_png")]
    several = [InferInput("image", [3], "BYTES").set_data_from_numpy(photos)]
    answer = client.infer(model, several, outputs=outputs, parameters={"target": 1})
    assert answer.as_numpy("labels").shape[0] == 3
    assert answer.as_numpy("saliency").shape[:2] == (3, 1)
    assert answer.as_numpy("map_png").shape == (3, 1)
    pixels = np.zeros((2, 8, 6, 3), np.uint8)
    answer = client.infer(model, [InferInput("image", [2, 8, 6, 3], "UINT8").set_data_from_numpy(pixels)])
    assert answer.as_numpy("classes").shape[0] == 2


def refused(
    client: InferenceServerClient, model: str, tensor: InferInput, parameters: dict[str, object]
) -> InferenceServerException:
    """What is said to parameters that cannot be."""
    try:
        client.infer(model, [tensor], parameters=parameters)
    except InferenceServerException as error:
        return error
    raise AssertionError("it was accepted")


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]))
