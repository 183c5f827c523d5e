"""`model.json`: what an archive tells the handler about its model. Never imports torch."""

from typing import Any

from model_store.schema import Activation, Architecture, Digest, Frozen, ModelEntry, PositiveInt, Preprocessing

DOCUMENT_NAME = "model.json"
# Files have fixed names inside an archive: names of the operator's machine stay outside.
ARCHITECTURE_FILE = "whylight_architecture.py"
EXPORT_FILE = "export.pt2"
ONNX_FILE = "model.onnx"
GRAPH_FILE = "fast_path.onnx"


class ModelDocument(Frozen):
    """Everything that the handler needs beside the weights.

    Attributes:
        architecture: for people, for example "torchvision:resnet50" or "python:cnn.py:DigitsCNN".
        source: the same in parts, with the names of files as they are inside the archive.
        weights: name of the weights file inside the archive; the file itself for `pt2` and `onnx`.
        sha256: of that file.
        activation: what turns the logits into probabilities.
        preprocessing_digest: `Preprocessing.digest()`.
        threads: threads of torch; None: torch decides.
        graph_sha256: of the graph that ONNX Runtime runs; None: there is none.
    """

    name: str
    version: str
    description: str
    architecture: str
    source: Architecture
    arguments: dict[str, Any]
    weights: str
    sha256: Digest
    labels: tuple[str, ...]
    target_layer: str | None
    activation: Activation = "softmax"
    preprocessing: Preprocessing
    preprocessing_digest: str
    threads: PositiveInt | None
    graph_sha256: Digest | None = None

    @property
    def weights_digest(self) -> str:
        """`sha256` as answers carry it."""
        return f"sha256:{self.sha256}"

    @classmethod
    def from_entry(cls, entry: ModelEntry, labels: tuple[str, ...]) -> "ModelDocument":
        """The document of a manifest's entry, without any path of the machine that builds the archive."""
        source = entry.source
        names = {"python": ARCHITECTURE_FILE, "pt2": EXPORT_FILE, "onnx": ONNX_FILE}
        name = names.get(source.kind, "")
        suffix = (entry.weights or "").rpartition(".")[2]
        return cls(
            name=entry.name,
            version=entry.version,
            description=entry.description,
            architecture=source.text,
            source=source.model_copy(update={"file": name}),
            arguments=entry.arguments,
            weights=name if source.holds_weights else f"weights.{suffix}",
            sha256=entry.sha256,
            labels=labels,
            target_layer=entry.target_layer,
            activation=entry.activation,
            preprocessing=entry.preprocessing,
            preprocessing_digest=entry.preprocessing.digest(),
            threads=entry.serving.threads,
            graph_sha256=entry.onnx.sha256 if entry.onnx else None,
        )
