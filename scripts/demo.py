"""The whole way once: start the service, send it a photograph with two digits, and draw why it saw each of them.

Run by `make demo`. Writes to build/demo/ one overlay for each model and class, and explanation.png with all of them
side by side.
"""

import argparse
import io
import json
import sys
from contextlib import ExitStack
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from rich.console import Console

from protos.explain.v1 import explanation_service_pb2 as api
from service.client import Client, build_method
from service.launch import LaunchError, launched

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "model_store" / "digits" / "samples"
# Each network with a method that suits its kind.
METHODS = {"digits-cnn": "grad_cam", "digits-vit": "tibav"}
TILE, CAPTION, GAP = 320, 34, 10

console = Console()


def explain(client: Client, model: str, image: bytes, classes: list[int]) -> api.ExplainResponse:
    """Ask why each class, drawn over the image."""
    references = [api.ClassReference(index=index) for index in classes]
    response = client.explain(
        api.ExplainRequest(
            model=model,
            image=image,
            method=build_method(METHODS[model], []),
            targets=api.Targets(classes=api.ClassList(classes=references)),
            output=api.OutputOptions(overlay_png=True),
            top_k=3,
        )
    )
    scores = ", ".join(f"{score.label} ({score.probability:.1%})" for score in response.predictions)
    milliseconds = response.timings.total.ToNanoseconds() / 1e6
    console.print(f"[bold]{model}[/]: {scores}, {milliseconds:.0f} ms", highlight=False)
    return response


def panel(image: bytes, responses: list[api.ExplainResponse]) -> Image.Image:
    """The image beside every explanation: one row for each model, one column for each class."""
    columns = 1 + max(len(response.explanations) for response in responses)
    size = (columns * (TILE + GAP) + GAP, len(responses) * (TILE + CAPTION + GAP) + GAP)
    sheet = Image.new("RGB", size, "white")
    for row, response in enumerate(responses):
        tiles = [(image, f"{response.provenance.model}, {response.provenance.method.WhichOneof('method')}")]
        tiles += [
            (each.overlay_png, f"why {each.target.label}?  (p = {each.target.probability:.2f})")
            for each in response.explanations
        ]
        for column, (png, caption) in enumerate(tiles):
            _place(sheet, png, caption, (GAP + column * (TILE + GAP), GAP + row * (TILE + CAPTION + GAP)))
    return sheet


def _place(sheet: Image.Image, png: bytes, caption: str, corner: tuple[int, int]) -> None:
    """Draw one picture with its caption above it; an empty one stands for a degenerate map."""
    draw = ImageDraw.Draw(sheet)
    draw.text((corner[0], corner[1] + 4), caption, fill="black", font=ImageFont.load_default(20))
    if png:
        picture = Image.open(io.BytesIO(png)).convert("RGB").resize((TILE, TILE), Image.Resampling.BICUBIC)
        sheet.paste(picture, (corner[0], corner[1] + CAPTION))


def main() -> None:
    """Run the demo."""
    parser = argparse.ArgumentParser(description="Explain a photograph with two digits by both default models.")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "demo", help="folder for the pictures")
    output: Path = parser.parse_args().output
    output.mkdir(parents=True, exist_ok=True)
    sample = next(each for each in json.loads((SAMPLES / "samples.json").read_text()) if len(each["labels"]) == 2)
    image = (SAMPLES / sample["image"]).read_bytes()
    console.print(f"a photograph with the handwritten digits {sample['labels'][0]} and {sample['labels'][1]}")
    with ExitStack() as stack:
        with console.status("starting TorchServe and loading the models"):
            service = stack.enter_context(launched())
        client = stack.enter_context(Client(service.address))
        responses = [explain(client, model, image, sample["labels"]) for model in METHODS]
    for response in responses:
        for each in response.explanations:
            path = output / f"{response.provenance.model}_{each.target.label}.png"
            path.write_bytes(each.overlay_png)
            console.print(f"wrote {path}", highlight=False)
    panel(image, responses).save(output / "explanation.png", optimize=True)
    console.print(f"wrote {output / 'explanation.png'}: everything side by side", highlight=False)


if __name__ == "__main__":
    try:
        main()
    except LaunchError as error:
        sys.exit(str(error))
