"""Several images in one ModelInfer: each goes its own way, and one answer holds them all."""

import asyncio
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from PIL import Image

from model_store.lanes import Lane
from protos.explain.v1 import types_pb2
from protos.inference import inference_service_pb2 as oip
from protos.worker.v1 import worker_pb2
from service.errors import InvalidRequestError, Violation
from tests.service.fakes import MODEL, Front, front
from tests.service.identity.people import bearer, entry, write_clients
from tests.service.inference.asking import VALUES, ask, packed, stub_of, tensors, whole
from tests.service.test_front import details, refused

PHOTOS = [b"first", b"second photo", b"third..."]
EXPLAIN = {"explain": True, "target": 1}


def batch(
    photos: Sequence[bytes] = PHOTOS, *, raw: bool = True, flat: bool = True, **fields: Any
) -> oip.ModelInferRequest:
    """A request for several encoded images."""
    shape = [len(photos)] if flat else [len(photos), 1]
    tensor: dict[str, Any] = {"name": "image", "datatype": "BYTES", "shape": shape}
    contents = [packed(*photos)]
    if not raw:
        tensor["contents"], contents = {"bytes_contents": photos}, []
    return ask(inputs=[tensor], raw_input_contents=contents, **fields)


def numbered(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
    """An answer that tells the images apart by their length, and has a warning of its own for the second one."""
    response = whole(request)
    length = len(request.image.image)
    response.image.predictions[0].logit = length
    for explanation in response.image.explanations:
        explanation.map_png = str(length).encode()
    if request.image.image == PHOTOS[1]:
        response.image.warnings.add(code=types_pb2.WARNING_CODE_BORDER_MASS_HIGH)
    return response


@pytest.mark.parametrize(("raw", "flat"), [(True, True), (True, False), (False, True)])
async def test_every_output_has_the_images_in_front(raw: bool, flat: bool) -> None:
    """In the order of the request; provenance and warnings of each."""
    lengths = [len(photo) for photo in PHOTOS]
    async with front() as service:
        service.worker.answer = numbered
        outputs = ["logits", "labels", "saliency", "targets", "map_to_image", "map_png", "quality.average_drop"]
        request = batch(raw=raw, flat=flat, id="mine", parameters=EXPLAIN, outputs=outputs)
        answer = await stub_of(service).ModelInfer(request)
        assert sorted(each.image.image for each in service.worker.requests) == sorted(PHOTOS)
    found = tensors(answer)
    assert {name: shape for name, (_, shape, _) in found.items()} == {
        "logits": [3, 1],
        "labels": [3, 1],
        "saliency": [3, 1, 2, 3],
        "targets": [3, 1],
        "map_to_image": [3, 1, 2, 3],
        "map_png": [3, 1],
        "quality.average_drop": [3, 1],
    }
    assert found["logits"][2] == lengths
    assert found["map_png"][2] == [str(each).encode() for each in lengths]
    assert found["saliency"][2] == pytest.approx(VALUES * 3)
    assert [each["model"] for each in json.loads(answer.parameters["provenance"].string_param)] == [MODEL] * 3
    assert answer.parameters["warnings"].string_param == "LOW_CONFIDENCE;LOW_CONFIDENCE,BORDER_MASS_HIGH;LOW_CONFIDENCE"
    assert (answer.id, bool(answer.raw_output_contents)) == ("mine", raw)


async def test_pixels_may_be_a_batch() -> None:
    """Each image as it is, in order."""
    count, height, width = 3, 5, 7
    pixels = bytes((11 * value) % 251 for value in range(count * height * width * 3))
    tensor = {"name": "image", "datatype": "UINT8", "shape": [count, height, width, 3]}
    async with front() as service:
        answer = await stub_of(service).ModelInfer(ask(inputs=[tensor], raw_input_contents=[pixels]))
        sent = [Image.open(io.BytesIO(each.image.image)).tobytes() for each in service.worker.requests]
    assert b"".join(sent) == pixels
    assert tensors(answer)["classes"] == ("INT64", [3, 1], [1, 1, 1])


async def test_they_are_with_the_worker_at_the_same_time() -> None:
    """So that the worker can make a batch of them."""
    async with front() as service:
        service.worker.gate.clear()
        call = stub_of(service).ModelInfer(batch())
        await until(service, 3)
        service.worker.gate.set()
        await call


async def test_each_image_is_counted() -> None:
    """Three requests, and three times each of the worker's stages."""
    async with front() as service:
        service.worker.answer = whole
        await stub_of(service).ModelInfer(batch(parameters=EXPLAIN))
        read = service.metrics.registry.get_sample_value
        labels = {"rpc": "ModelInfer", "model": MODEL, "method": "grad_cam"}
        assert read("whylight_requests_total", {**labels, "code": "OK"}) == 3
        assert read("whylight_stage_duration_seconds_count", {**labels, "stage": "compute"}) == 3


async def test_each_image_waits_for_room() -> None:
    """Where there is room for two, a request for three is refused, and its others are given up."""
    async with front(lanes=[Lane.FAST], fast_in_flight=1, fast_queue_size=1) as service:
        service.worker.answer = whole
        service.worker.gate.clear()
        async with asyncio.timeout(10):  # not when the others' deadline has passed
            error = await refused(stub_of(service).ModelInfer(batch(parameters=EXPLAIN)))
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert details(error)["ErrorInfo"].reason == "QUEUE_FULL"  # type: ignore[attr-defined]
        service.worker.gate.set()
        await stub_of(service).ModelInfer(batch(PHOTOS[:2], parameters=EXPLAIN))


async def test_each_image_counts_for_the_quota(tmp_path: Path) -> None:
    """All of them or none: a request that is refused takes nothing."""
    people = entry("a", "explain", explanations_per_minute=4, predictions_per_minute=3)
    async with front(clients_file=write_clients(tmp_path / "clients.toml", people)) as service:
        service.worker.answer = whole
        infer = stub_of(service).ModelInfer
        await infer(batch(parameters=EXPLAIN), metadata=bearer("a"))
        error = await refused(infer(batch(parameters=EXPLAIN), metadata=bearer("a")))
        assert details(error)["ErrorInfo"].reason == "QUOTA_EXCEEDED"  # type: ignore[attr-defined]
        await infer(batch(PHOTOS[:1], parameters=EXPLAIN), metadata=bearer("a"))
        await infer(batch(), metadata=bearer("a"))
        assert "quota of predictions" in str((await refused(infer(batch(), metadata=bearer("a")))).details())


async def test_an_image_that_cannot_be_read_is_named() -> None:
    """The request fails, and says which it is."""

    def answer(request: worker_pb2.WorkRequest) -> worker_pb2.WorkResponse:
        if request.image.image == PHOTOS[1]:
            raise InvalidRequestError("no", (Violation("image", "cannot be decoded"),))
        return whole(request)

    async with front() as service:
        service.worker.answer = answer
        error = await refused(stub_of(service).ModelInfer(batch()))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "inputs[0][1] cannot be decoded" in str(error.details())


async def test_how_many_is_a_setting() -> None:
    """Two where it says two."""
    async with front(max_images=2) as service:
        error = await refused(stub_of(service).ModelInfer(batch()))
        await stub_of(service).ModelInfer(batch(PHOTOS[:2]))
    assert "inputs[0].shape must have 1 to 2 images" in str(error.details())


async def test_equal_images_are_computed_once() -> None:
    """As equal requests that come at once; each says what it was."""
    async with front(cache_bytes=1_000_000) as service:
        service.worker.answer = whole
        answer = await stub_of(service).ModelInfer(batch([PHOTOS[0]] * 3))
        assert len(service.worker.requests) == 1
    found = [each["cache"]["outcome"] for each in json.loads(answer.parameters["provenance"].string_param)]
    assert sorted(found) == ["CACHE_OUTCOME_MISS", "CACHE_OUTCOME_SHARED", "CACHE_OUTCOME_SHARED"]


async def until(service: Front, requests: int) -> None:
    async with asyncio.timeout(20):
        while len(service.worker.requests) < requests:
            await asyncio.sleep(0.001)
