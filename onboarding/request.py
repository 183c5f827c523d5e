"""What `whylight model add` is asked for."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from model_store.schema import Architecture
from onboarding.errors import OnboardingError


@dataclass(frozen=True)
class AddRequest:
    """A model to add.

    Attributes:
        name: for clients.
        source: what builds the network.
        manifest: where its entry goes; made if there is none.
        store: the folder for its archive.
        weights: the file; None for `pt2` and `onnx`, and where the library downloads them.
        pretrained: have the library download its own weights.
        arguments: of the constructor.
        labels: a file with the names of the classes; None: the library's own names.
        entry: further keys of the entry, as the manifest has them: version, description, activation, target_layer.
        preprocessing: keys that replace those of the model's own configuration.
        image: is explained; None: noise that looks like a photograph to the network.
    """

    name: str
    source: Architecture
    manifest: Path
    store: Path
    weights: Path | None = None
    pretrained: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)
    labels: Path | None = None
    entry: dict[str, Any] = field(default_factory=dict)
    preprocessing: dict[str, Any] = field(default_factory=dict)
    image: Path | None = None

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            OnboardingError: none or too many sources of weights.
        """
        if self.source.holds_weights:
            if self.weights is not None or self.pretrained:
                kind = self.source.kind
                raise OnboardingError(f"a .{kind} file holds its weights: give neither --weights nor --pretrained")
        elif (self.weights is None) != self.pretrained:
            raise OnboardingError("give either --weights FILE or --pretrained")
        elif self.pretrained and self.source.kind == "python":
            raise OnboardingError("--pretrained is for torchvision and timm: your own code needs --weights FILE")


def parse_arguments(texts: Sequence[str]) -> dict[str, Any]:
    """KEY=VALUE with a value as TOML writes it; what is no TOML value is text.

    Raises:
        OnboardingError: there is no equals sign.
    """
    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.isidentifier():
            raise OnboardingError(f"--argument {text}: must be KEY=VALUE")
        try:
            found[key] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            found[key] = value
    return found
