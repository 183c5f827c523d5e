"""Tiny data and a tiny model for the tests of the evaluation."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from evaluation.backend import Batch, Outcome, Plan, Value
from evaluation.items import Item
from evaluation.names import ClassNames

LABELS = ("ant", "bee", "cat, house cat", "crane", "crane")


def names(mapping: Mapping[str, tuple[int, ...]] | None = None) -> ClassNames:
    """Of five classes, two of which have the same label."""
    return ClassNames(LABELS, mapping or {})


def write_image(path: Path, width: int = 6, height: int = 4) -> Path:
    """A grey picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (90, 90, 90)).save(path)
    return path


def write_mask(path: Path, pixels: Sequence[Sequence[int]]) -> Path:
    """A greyscale picture of these values."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.array(pixels, dtype=np.uint8)).save(path)
    return path


def write_json(path: Path, value: Any) -> Path:
    """A JSON file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


class Clockwork:
    """A backend that computes nothing: values come out of a function of the method and the image's number."""

    labels = LABELS

    def __init__(self, value: Callable[[str, int], Sequence[Value]], broken: Sequence[int] = ()) -> None:
        self.value = value
        self.broken = broken
        self.batches: list[tuple[str, ...]] = []

    def describe(self) -> dict[str, Any]:
        return {"model": {"name": "clock", "version": "1"}}

    def resolve(self, plan: Plan, *, leave_out: bool) -> Plan:
        return plan

    def prepare(self, items: Sequence[Item], plan: Plan) -> Batch:
        self.batches.append(tuple(item.id for item in items))
        failures = {item.id: "unreadable" for item in items if int(item.id) in self.broken}
        return Batch(tuple(item for item in items if item.id not in failures), failures)

    def explain(self, batch: Batch, method: str, plan: Plan) -> list[Outcome]:
        return [self._outcome(method, int(item.id), plan) for item in batch.items]

    def _outcome(self, method: str, number: int, plan: Plan) -> Outcome:
        values = self.value(method, number)
        targets = tuple(range(len(values)))
        return Outcome(
            targets, 0, (0.5,) * len(values), (False,) * len(values), dict.fromkeys(plan.metrics, values), 0.25, 0.5
        )


def numbered(count: int) -> list[Item]:
    """Items whose ids are numbers, without images."""
    return [Item(str(number), np.zeros((1, 1, 3), np.uint8), ((0,),)) for number in range(count)]
