"""Do the maps lie where the object is? Asked of the running service, for every model.

`python -m benchmarks.localisation [--pairs 200] [--method grad_cam] [--output docs/benchmarks/localisation.md]`

Digits: photographs with two handwritten digits, none of them seen in training, with exact masks. The map of class A
should have more of its energy on digit A than on digit B, and the other way round.
Real networks: the photographs of the real set with boxes and masks (skipped where the set is not there). Energy inside
against the area's share of the image: 1 means no better than a uniform map.
"""

import argparse
import io
import json
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from benchmarks.geometry import Map, energy, on_image
from model_store.digits.samples import held_out_pairs
from protos.explain.v1 import explanation_service_pb2 as api
from service.client import Client, build_method
from service.launch import launched
from tests import real


@dataclass(frozen=True)
class Service:
    """A client and the method it asks for."""

    client: Client
    method: str

    def maps(self, model: str, image: bytes, classes: Iterable[int]) -> tuple[api.ExplainResponse, list[Map]]:
        """The maps of some classes of an image, on the pixels of the image."""
        references = [api.ClassReference(index=index) for index in classes]
        request = api.ExplainRequest(
            model=model,
            image=image,
            method=build_method(self.method, []),
            targets=api.Targets(classes=api.ClassList(classes=references)),
            top_k=1,
        )
        response = self.client.explain(request)
        return response, [on_image(explanation.map, response.image) for explanation in response.explanations]


def digit_rows(service: Service, count: int) -> list[str]:
    """For each default model: how often the map of each digit prefers that digit."""
    rows = []
    for model in ("digits-cnn", "digits-vit"):
        wins, both = 0, 0
        shares: list[float] = []
        areas: list[float] = []
        for sample in tqdm(held_out_pairs(count, seed=1, side=192), desc=model, total=count):
            buffer = io.BytesIO()
            Image.fromarray(sample.image).save(buffer, "PNG")
            _, maps = service.maps(model, buffer.getvalue(), sample.labels)
            inside = np.array([[energy(each, mask) for mask in sample.masks] for each in maps])
            better = (inside[0, 0] > inside[0, 1], inside[1, 1] > inside[1, 0])
            wins += sum(better)
            both += all(better)
            shares.extend((inside[0, 0], inside[1, 1]))
            areas.extend(mask.mean() for mask in sample.masks)
        rows.append(
            f"| {model} | {count} | {wins / (2 * count):.1%} | {both / count:.1%} "
            f"| {np.nanmean(shares):.3f} | {np.mean(areas):.3f} |"
        )
    return rows


@dataclass(frozen=True)
class Found:
    """Energy and area shares of one object of a photograph."""

    recognised: bool
    in_mask: float
    mask_area: float
    in_box: float
    box_area: float


def real_rows(service: Service) -> list[str]:
    """For each real network: energy inside masks and boxes over all objects, and over the recognised ones."""
    photographs = json.loads((real.ROOT / "images.json").read_text())
    rows = []
    for model in real.MODELS:
        found = [each for photo in tqdm(photographs, desc=model) for each in _objects(service, model, photo)]
        for name, chosen in (("all", found), ("recognised", [each for each in found if each.recognised])):
            mask, mask_area, box, box_area = (
                float(np.nanmean([getattr(each, field) for each in chosen]))
                for field in ("in_mask", "mask_area", "in_box", "box_area")
            )
            rows.append(
                f"| {model} | {name} | {len(chosen)} | {mask:.3f} | {mask_area:.3f} | {mask / mask_area:.2f} "
                f"| {box:.3f} | {box_area:.3f} | {box / box_area:.2f} |"
            )
    return rows


def _objects(service: Service, model: str, photo: dict[str, Any]) -> list[Found]:
    """Every object of a photograph that has a mask, explained as the most probable of its classes."""
    image = (real.ROOT / "images" / photo["file"]).read_bytes()
    scores = service.client.predict(api.PredictRequest(model=model, image=image, top_k=100)).predictions
    probable = [score.index for score in scores]
    found = []
    for category, entry in (photo.get("masks") or {}).items():
        accepted = [index for index in probable if index in entry["imagenet_classes"]] or entry["imagenet_classes"]
        _, (saliency,) = service.maps(model, image, accepted[:1])
        picture = Image.open(real.ROOT / "images" / entry["file"]).convert("L")
        mask = np.asarray(picture.resize(saliency.shape[::-1], Image.Resampling.NEAREST)) > 0
        box = np.zeros_like(mask)
        for x0, y0, x1, y1 in (each["box"] for each in photo["boxes"] if each["category"] == category):
            box[round(y0) : round(y1), round(x0) : round(x1)] = True
        found.append(
            Found(
                recognised=probable[0] in entry["imagenet_classes"],
                in_mask=energy(saliency, mask),
                mask_area=float(mask.mean()),
                in_box=energy(saliency, box),
                box_area=float(box.mean()),
            )
        )
    if not found:  # no ground truth, but every photograph has to go through
        service.maps(model, image, probable[:1])
    return found


def report(arguments: argparse.Namespace) -> str:
    """Measure everything and lay it out as Markdown."""
    command = f"python -m benchmarks.localisation --pairs {arguments.pairs} --method {arguments.method}"
    lines = [f"`{command}`, {date.today()}"]
    with launched() as running, Client(running.address) as client:
        lines += [
            "",
            "| model | images | maps that prefer their digit | images where both do | energy on the digit | its area |",
            "|---|---|---|---|---|---|",
            *digit_rows(Service(client, arguments.method), arguments.pairs),
        ]
    if not real.ROOT.is_dir():
        return "\n".join([*lines, "", "No real networks here."]) + "\n"
    with tempfile.TemporaryDirectory() as folder:
        manifest = real.write_real_manifest(Path(folder))
        settings = {"manifest": manifest, "store": folder}
        with launched(settings) as running, Client(running.address) as client:
            lines += [
                "",
                "| network | objects | count | energy in mask | area | ratio | energy in boxes | area | ratio |",
                "|---|---|---|---|---|---|---|---|---|",
                *real_rows(Service(client, arguments.method)),
            ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200, help="photographs with two digits")
    parser.add_argument("--method", default="grad_cam")
    parser.add_argument("--output", type=Path, help="Markdown file to write")
    arguments = parser.parse_args()
    text = report(arguments)
    print(text)
    if arguments.output:
        arguments.output.parent.mkdir(parents=True, exist_ok=True)
        arguments.output.write_text(text)


if __name__ == "__main__":
    main()
