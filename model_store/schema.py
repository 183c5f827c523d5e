"""One model of the manifest: where it comes from, how it sees images, how it is served."""

import json
import re
from hashlib import sha256
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from model_store.lanes import SUFFIXES, is_lane

# Arguments that would make torchvision or timm fetch or unpickle weights of their own.
WEIGHT_ARGUMENTS = frozenset(
    {"weights", "weights_backbone", "pretrained", "checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay"}
)

Digest = Annotated[str, AfterValidator(str.lower), Field(pattern=r"^[0-9a-fA-F]{64}$")]
PositiveInt = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Side = Annotated[int, Field(ge=1, le=4096)]
Size = Annotated[tuple[Side, Side], BeforeValidator(lambda value: [value, value] if isinstance(value, int) else value)]
Channels = tuple[float, float, float]
# What the head's logits become: `explainers.Activation`, which this package must not import.
Activation = Literal["softmax", "sigmoid"]


class Frozen(BaseModel):
    """A table that cannot be changed and that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Architecture(Frozen):
    """What builds the network, parsed from one of five texts.

    `torchvision:NAME`, `timm:NAME`, `python:FILE.py:CALLABLE`, `pt2:FILE`, `onnx:FILE`. Files are relative to the
    manifest.

    Attributes:
        kind: which of the five.
        file: the file of `python`, `pt2` and `onnx`; empty for the others.
        name: the library's name of the network, or the callable in the file; empty for `pt2` and `onnx`.
    """

    kind: Literal["torchvision", "timm", "python", "pt2", "onnx"]
    file: str = ""
    name: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form.

        Raises:
            ValueError: the text has none of the five forms.
        """
        kind, _, rest = text.partition(":")
        if kind in ("torchvision", "timm") and re.fullmatch(r"[A-Za-z0-9_.]+", rest):
            return cls(kind=kind, name=rest)  # type: ignore[arg-type]
        file, _, name = rest.rpartition(":")
        if kind == "python" and file.endswith(".py") and name.isidentifier():
            return cls(kind="python", file=file, name=name)
        if kind in ("pt2", "onnx") and rest.endswith(f".{kind}"):
            return cls(kind=kind, file=rest)  # type: ignore[arg-type]
        raise ValueError(
            "must be torchvision:NAME, timm:NAME, python:FILE.py:CALLABLE, pt2:FILE.pt2 or onnx:FILE.onnx"
        )

    @property
    def holds_weights(self) -> bool:
        """Whether the file is the whole model, its weights included."""
        return self.kind in ("pt2", "onnx")

    @property
    def text(self) -> str:
        """The text form for people: of a file only its name, never where it lies."""
        return ":".join(part for part in (self.kind, PurePath(self.file).name, self.name) if part)


class Preprocessing(Frozen):
    """From the upright RGB image to what the network takes.

    Attributes:
        size: (height, width) of the network's input; one number means a square.
        resize: `squash` scales the whole image to `size` and ignores its proportions; `crop` scales its shorter side
            to `short_side` and cuts `size` out of the middle.
        short_side: only for `crop`; at least as long as both sides of `size`.
        interpolation: filter of the resize, as Pillow computes it.
        mean: subtracted from the channels R, G, B in [0, 1].
        std: what the channels are divided by after that.
    """

    size: Size
    resize: Literal["squash", "crop"] = "squash"
    short_side: PositiveInt | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: Channels
    std: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]

    @model_validator(mode="after")
    def _crop_fits(self) -> Self:
        if self.resize == "squash" and self.short_side is not None:
            raise ValueError("short_side has no meaning with resize = 'squash'")
        if self.resize == "crop" and (self.short_side is None or self.short_side < max(self.size)):
            raise ValueError("resize = 'crop' needs a short_side that is at least as long as both sides of size")
        return self

    def digest(self) -> str:
        """`sha256:` and 64 hexadecimal digits over the canonical description."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return "sha256:" + sha256(text.encode()).hexdigest()


class Serving(Frozen):
    """How TorchServe runs the model.

    Attributes:
        workers: processes for predictions, each with its own copy of the weights.
        fast_workers: further processes for fast maps; 0: the predictions' compute them.
        slow_workers: further processes for slow maps; 0: those of the fast maps compute them.
        batch_size: largest number of requests that one worker takes at once.
        slow_batch_size: the same of a worker for slow maps.
        max_batch_delay_ms: longest wait for a batch to fill.
        response_timeout_s: after this long for one batch TorchServe kills the worker. One for slow maps has as long as
            a request may take (the service's setting `longest_timeout`), where that is longer.
        threads: threads of torch in each worker; absent: torch decides.
    """

    workers: PositiveInt = 1
    fast_workers: Count = 1
    slow_workers: Count = 1
    batch_size: PositiveInt = 4
    slow_batch_size: PositiveInt = 1
    max_batch_delay_ms: Annotated[int, Field(ge=0)] = 5
    response_timeout_s: PositiveInt = 60
    threads: PositiveInt | None = None


class Graph(Frozen):
    """`[models.onnx]`: ONNX Runtime computes the predictions, CAM and Grad-CAM. `whylight model export` writes it.

    Attributes:
        graph: the `.onnx` file, relative to the manifest.
        sha256: of that file.
    """

    graph: Annotated[str, Field(pattern=r"\.onnx$")]
    sha256: Digest


class ModelEntry(Frozen):
    """One `[[models]]` table.

    Attributes:
        name: how clients call it, and the name of the archive.
        version: any text without spaces; answers carry it.
        description: one line for people.
        architecture: see `Architecture`.
        arguments: keyword arguments of the constructor.
        weights: `.safetensors`, `.pt` or `.pth`, relative to the manifest. Absent only for `pt2` and `onnx`, which hold
            them.
        sha256: of the weights file, or of the `.pt2` or `.onnx` file.
        labels: names of the classes in the order of their index; or else
        labels_file: a JSON list of names, a JSON list of records with `index` and `name`, or lines of text.
        target_layer: path of the module that methods explain, or name of the tensor of an `onnx` file; absent: found by
            itself.
        activation: what turns logits into probabilities: `softmax` where one of the classes is there; `sigmoid` where
            each is there or not: multi-label heads, and binary ones of one logit.
        preprocessing: see `Preprocessing`.
        serving: see `Serving`.
        onnx: see `Graph`; absent: torch computes everything.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    version: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
    description: Annotated[str, Field(max_length=500, pattern=r"^[^\n]*$")] = ""
    architecture: str
    arguments: dict[str, Any] = {}
    weights: str | None = None
    sha256: Digest
    labels: tuple[str, ...] | None = None
    labels_file: str | None = None
    target_layer: Annotated[str, Field(min_length=1)] | None = None
    activation: Activation = "softmax"
    preprocessing: Preprocessing
    serving: Serving = Serving()
    onnx: Graph | None = None

    @field_validator("name")
    @classmethod
    def _name_is_no_lanes(cls, name: str) -> str:
        if is_lane(name):
            suffixes = " or ".join(SUFFIXES)
            raise ValueError(f"must not end in {suffixes}: workers for some of a model's work are called so")
        return name

    @field_validator("architecture")
    @classmethod
    def _architecture_parses(cls, text: str) -> str:
        Architecture.parse(text)
        return text

    @field_validator("weights")
    @classmethod
    def _weights_are_readable(cls, file: str | None) -> str | None:
        if file is not None and not file.endswith((".safetensors", ".pt", ".pth")):
            raise ValueError("must be a .safetensors, .pt or .pth file")
        return file

    @field_validator("arguments")
    @classmethod
    def _no_foreign_weights(cls, arguments: dict[str, Any]) -> dict[str, Any]:
        if forbidden := sorted(WEIGHT_ARGUMENTS & arguments.keys()):
            raise ValueError(f"{forbidden[0]} is not allowed: weights come from the weights file alone")
        return arguments

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        whole = self.source.holds_weights
        if whole and (self.weights is not None or self.arguments):
            raise ValueError(f"a {self.source.kind} file holds its weights and takes no arguments")
        if not whole and self.weights is None:
            raise ValueError("weights are missing")
        if self.source.kind == "onnx" and self.onnx is not None:
            raise ValueError("an onnx file is computed by ONNX Runtime anyway: leave [models.onnx] out")
        if (self.labels is None) == (self.labels_file is None):
            raise ValueError("exactly one of labels and labels_file is needed")
        return self

    @property
    def source(self) -> Architecture:
        """The architecture, parsed."""
        return Architecture.parse(self.architecture)
