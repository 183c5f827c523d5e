"""What a kept answer saves, and what keeping answers costs.

`python -m benchmarks.cache_cost --output docs/benchmarks/cache_cost.md`

One client asks a service for answers on images that it has not seen, one request after the other. Each image is asked
for three times: with no_cache, for the first time without, and once more; the first two change places from image to
image.
Then the digests that the worker and the service make of an image of a camera are timed beside its decoding.
"""

import argparse
import hashlib
import io
import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import grpc
from PIL import Image, ImageChops
from tqdm import tqdm

from benchmarks.timing import machine
from handlers.content import content_digest
from handlers.images import decode
from handlers.settings import Limits
from model_store.digits.samples import SAMPLES_FOLDER
from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import explanation_service_pb2_grpc as api_grpc
from protos.explain.v1 import method_pb2
from service.launch import launched

MODEL = "digits-cnn"
IMAGE = SAMPLES_FOLDER / "cat.jpg"
CAMERA = (4000, 3000)
KINDS = ("no_cache", "miss", "hit")
REQUESTS: Mapping[str, api.ExplainRequest] = {
    "Grad-CAM": api.ExplainRequest(method=method_pb2.Method(grad_cam=method_pb2.GradCam())),
    "Grad-CAM with an overlay": api.ExplainRequest(
        method=method_pb2.Method(grad_cam=method_pb2.GradCam()), output=api.OutputOptions(overlay_png=True)
    ),
    "Score-CAM": api.ExplainRequest(method=method_pb2.Method(score_cam=method_pb2.ScoreCam())),
}

REPORT = """# What a kept answer saves

`{command}`

{machine}, {processors} processors under a load of {load:.0f}. {images} images of {size} pixels (PNG) on {model}, one
client on the same machine; milliseconds of Explain as the client sees them, medians. A miss is computed and kept,
no_cache is computed and not kept.

| request | no_cache | miss | hit | no_cache / hit |
|---|---|---|---|---|
{rows}

Of a JPEG with {megapixels:.0f} megapixels ({megabytes:.1f} MB), medians of {repeats}:

| step | where | milliseconds |
|---|---|---|
{steps}
"""


def variants(count: int) -> list[bytes]:
    """Files of the same photograph, shifted: a change that the network does not see would be no other image."""
    photograph = Image.open(IMAGE).convert("RGB")
    return [encoded(ImageChops.offset(photograph, 5 * number, 0), "PNG") for number in range(count)]


def encoded(image: Image.Image, image_format: str) -> bytes:
    """A file of an image."""
    buffer = io.BytesIO()
    image.save(buffer, image_format)
    return buffer.getvalue()


def milliseconds(work: Callable[[], object]) -> float:
    """What one run takes."""
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def measure(stub: api_grpc.ExplanationServiceStub, request: api.ExplainRequest, files: list[bytes]) -> dict[str, float]:
    """The median of each kind."""
    found: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for number, file in enumerate(tqdm(files, unit="image")):
        plain, bypass = api.ExplainRequest(), api.ExplainRequest()
        for each in (plain, bypass):
            each.CopyFrom(request)
            each.model, each.image = MODEL, file
        bypass.no_cache = True
        order = [("no_cache", bypass), ("miss", plain)]
        for kind, sent in [*order[:: 1 if number % 2 else -1], ("hit", plain)]:
            found[kind].append(milliseconds(lambda sent=sent: stub.Explain(sent, timeout=60)))  # type: ignore[misc]
    return {kind: statistics.median(values) for kind, values in found.items()}


def steps(repeats: int) -> tuple[list[str], int]:
    """A row for each step of a camera's image, and the bytes of its file."""
    data = encoded(Image.open(IMAGE).convert("RGB").resize(CAMERA), "JPEG")
    picture = decode(data, Limits()).pixels
    seen = picture.resize((224, 224))
    programs: Mapping[str, Callable[[], object]] = {
        "decoding | worker": lambda: decode(data, Limits()),
        "digest of what the network sees, 224 x 224 | worker": lambda: content_digest(picture, seen, drawn=False),
        "digest with all pixels, for an overlay | worker": lambda: content_digest(picture, seen, drawn=True),
        "digest of the file | service": lambda: hashlib.sha256(data).digest(),
    }
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            times[name].append(milliseconds(program))
    return [f"| {name} | {statistics.median(values):.1f} |" for name, values in times.items()], len(data)


def report(images: int, repeats: int, command: str) -> str:
    """Everything as Markdown."""
    files, rows = variants(images), []
    with (
        launched() as service,
        grpc.insecure_channel(service.address, [("grpc.max_receive_message_length", -1)]) as channel,
    ):
        stub = api_grpc.ExplanationServiceStub(channel)  # type: ignore[no-untyped-call]
        for name, request in REQUESTS.items():
            found = measure(stub, request, files)
            times = " | ".join(f"{found[kind]:.1f}" for kind in KINDS)
            rows.append(f"| {name} | {times} | {found['no_cache'] / found['hit']:.0f} |")
    found_steps, size = steps(repeats)
    width, height = Image.open(IMAGE).size
    return REPORT.format(
        command=command,
        machine=machine(),
        processors=os.cpu_count(),
        load=os.getloadavg()[1],
        images=images,
        size=f"{width} x {height}",
        model=MODEL,
        rows="\n".join(rows),
        megapixels=CAMERA[0] * CAMERA[1] / 1e6,
        megabytes=size / 1e6,
        repeats=repeats,
        steps="\n".join(found_steps),
    )


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    command = f"python -m benchmarks.cache_cost --images {arguments.images} --repeats {arguments.repeats}"
    text = report(arguments.images, arguments.repeats, command)
    print(text)
    if arguments.output is not None:
        arguments.output.write_text(text)


if __name__ == "__main__":
    main()
