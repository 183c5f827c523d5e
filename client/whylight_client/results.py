"""What the service answers, as frozen values."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL import Image

from whylight_client import drawing
from whylight_client.choices import Method
from whylight_client.drawing import ColorMap
from whylight_client.images import ImageLike, decode, encode, to_png
from whylight_client.maps import FloatMap, SaliencyMap

DEFAULT_OPACITY = 0.5


@dataclass(frozen=True)
class ClassScore:
    """One class with the model's figures for it.

    Attributes:
        index: of the class.
        label: of the class.
        logit: the value before the model's activation; None below full precision.
        probability: softmax or sigmoid of the logits, in [0, 1].
    """

    index: int
    label: str
    logit: float | None
    probability: float


@dataclass(frozen=True)
class ResultWarning:
    """Something to know before an answer is used.

    Attributes:
        code: for programs, for example "LOW_CONFIDENCE", "DEGENERATE_MAP" or "PARTIAL".
        message: a sentence in English.
        target_index: the class whose explanation is meant; None where the whole answer is.
    """

    code: str
    message: str
    target_index: int | None


@dataclass(frozen=True)
class ImageInfo:
    """The image as the service understood it.

    Attributes:
        width: of the upright image, in pixels.
        height: likewise.
        exif_orientation: of the file, 1 (upright) to 8.
        format: "JPEG", "PNG", "WEBP" or "BMP".
    """

    width: int
    height: int
    exif_orientation: int
    format: str


@dataclass(frozen=True)
class Provenance:
    """Where an answer comes from: enough to make the same one again.

    Attributes:
        request_id: of the call, as the service's log has it.
        model: name of the model.
        model_version: its version.
        weights_digest: "sha256:" and 64 hexadecimal digits.
        preprocessing_digest: likewise.
        method: with every parameter resolved; None in predictions. It can be asked for again as it is.
        target_layer: path of the module that was explained; empty for methods without one.
        device: "cpu", or "cuda:0" with the card's name.
        library_versions: by library.
        precision: "FULL", "STANDARD" or "COARSE", as the operator lets this client see.
        cache: "MISS", "HIT", "SHARED" or "BYPASS"; "UNSPECIFIED" where the service keeps nothing.
        cache_age: of a HIT: seconds since it was computed.
    """

    request_id: str
    model: str
    model_version: str
    weights_digest: str
    preprocessing_digest: str
    method: Method | None
    target_layer: str
    device: str
    library_versions: Mapping[str, str]
    precision: str
    cache: str
    cache_age: float | None


@dataclass(frozen=True)
class Timings:
    """Where the time went, in seconds. What is missing to the total is the service's own work.

    Attributes:
        total: from the request to the answer, in the service.
        admission: waiting for room.
        transport: to the worker and back: its queue, its batching.
        decode: the image.
        compute: the network: prediction and map.
        render: pictures.
        quality: the figures that were asked for.
    """

    total: float
    admission: float
    transport: float
    decode: float
    compute: float
    render: float
    quality: float


@dataclass(frozen=True)
class QualityFigure:
    """One metric of one explanation. Figures with different parameters can't be compared.

    Attributes:
        metric: name of the metric.
        value: None where the metric is not defined, for example of a degenerate map.
        unit: what the value counts: "%", "probability", "share" or "number".
        higher_is_better: the field's convention for this metric.
        parameters: all of them, by name.
        title: as the literature writes it.
        formula: the definition in plain text.
        reference: authors and year of the defining paper.
    """

    metric: str
    value: float | None
    unit: str
    higher_is_better: bool
    parameters: Mapping[str, object]
    title: str
    formula: str
    reference: str


@dataclass(frozen=True)
class Partial:
    """How far a map is that was answered before it was done: `step` of `steps`."""

    step: int
    steps: int


@dataclass(frozen=True, eq=False)
class Explanation:
    """What made the model see one class in the image.

    Attributes:
        target: the class.
        map: the saliency map on the grid that the method computed, with its place in the image.
        quality: one figure for each metric that was asked for, in that order.
        partial: set where the deadline came before the last step; the map is then the best so far.
        image: as the service understood it.
        source: the file that was sent; None where it is not known, as with a job of another process.
    """

    target: ClassScore
    map: SaliencyMap
    quality: tuple[QualityFigure, ...]
    partial: Partial | None
    image: ImageInfo
    source: bytes | None = field(default=None, repr=False)

    @property
    def native(self) -> FloatMap:
        """The map on the grid that the method computed: shape (rows, columns), float32, in [0, 1], read-only."""
        return self.map.values

    @functools.cached_property
    def saliency(self) -> FloatMap:
        """The map on the pixels of the upright image: shape (height, width), float32, in [0, 1], read-only.

        0 where the network saw nothing, outside of a crop.
        """
        values = self.map.on_image(self.image.height, self.image.width)
        values.flags.writeable = False
        return values

    def overlay(
        self, color_map: ColorMap = "viridis", opacity: float = DEFAULT_OPACITY, image: ImageLike | None = None
    ) -> Image.Image:
        """The upright image with the map in colour over it, in the image's own size, mode RGB.

        A degenerate map is not drawn: the image comes back as it is.

        Args:
            color_map: "viridis", "cividis" or "inferno".
            opacity: weight of the colours, 0 (only the image) to 1 (only the map).
            image: what was explained, where `source` is None.

        Raises:
            ValueError: no such colours or opacity; or the image is not known, or of another size.
        """
        source = self.source if image is None else encode(image)
        if source is None:
            raise ValueError("this explanation came without its image: overlay(image=...)")
        pixels = decode(source)
        if pixels.size != (self.image.width, self.image.height):
            raise ValueError(f"the image has {pixels.size} pixels, not {(self.image.width, self.image.height)}")
        return drawing.overlay(pixels, self.map, color_map, opacity)

    def to_png(
        self, color_map: ColorMap = "viridis", opacity: float = DEFAULT_OPACITY, image: ImageLike | None = None
    ) -> bytes:
        """The overlay as a PNG file. Arguments and errors as of `overlay`."""
        return to_png(self.overlay(color_map, opacity, image))


@dataclass(frozen=True)
class PredictResult:
    """A prediction.

    Attributes:
        predictions: most probable first.
        image: as it was understood.
        provenance: where the answer comes from.
        timings: where the time went.
        warnings: to know before the answer is used.
    """

    predictions: tuple[ClassScore, ...]
    image: ImageInfo
    provenance: Provenance
    timings: Timings
    warnings: tuple[ResultWarning, ...]


@dataclass(frozen=True, eq=False)
class ExplainResult:
    """A prediction and why. What belongs to one explanation is here, too, for the first one.

    Attributes:
        predictions: most probable first.
        explanations: one for each target, in the order asked for (most probable first for `TopK`).
        image: as it was understood.
        provenance: where the answer comes from.
        timings: where the time went.
        warnings: to know before the answer is used.
        interpretation: what a map shows and what it does not, to be shown beside it.
    """

    predictions: tuple[ClassScore, ...]
    explanations: tuple[Explanation, ...]
    image: ImageInfo
    provenance: Provenance
    timings: Timings
    warnings: tuple[ResultWarning, ...]
    interpretation: str

    @property
    def target(self) -> ClassScore:
        """The class of the first explanation."""
        return self.explanations[0].target

    @property
    def saliency(self) -> FloatMap:
        """As `Explanation.saliency`, of the first."""
        return self.explanations[0].saliency

    @property
    def native(self) -> FloatMap:
        """As `Explanation.native`, of the first."""
        return self.explanations[0].native

    @property
    def quality(self) -> tuple[QualityFigure, ...]:
        """As `Explanation.quality`, of the first."""
        return self.explanations[0].quality

    def overlay(
        self, color_map: ColorMap = "viridis", opacity: float = DEFAULT_OPACITY, image: ImageLike | None = None
    ) -> Image.Image:
        """As `Explanation.overlay`, of the first."""
        return self.explanations[0].overlay(color_map, opacity, image)

    def to_png(
        self, color_map: ColorMap = "viridis", opacity: float = DEFAULT_OPACITY, image: ImageLike | None = None
    ) -> bytes:
        """As `Explanation.to_png`, of the first."""
        return self.explanations[0].to_png(color_map, opacity, image)
