"""From public requests to commands: every field is checked here, and all that is wrong is named at once."""

import math
from collections.abc import Sequence

from google.protobuf.message import Message

from protos.explain.v1 import explanation_service_pb2 as api
from protos.explain.v1 import method_pb2, quality_pb2, types_pb2
from service.catalog import DeployedModel
from service.commands import ExplainCommand, PredictCommand
from service.errors import InvalidRequestError, MethodNotApplicableError, Violation

MAX_TOP_K = 100
MAX_TARGETS = 10
MAX_METRICS = 16
MAX_TEXT = 256
MAX_ENTRIES = 64  # of a list whose method names no bound
DEFAULT_TOP_K = 5
DEFAULT_OPACITY = 0.5
DEFAULT_METHOD = method_pb2.Method(grad_cam=method_pb2.GradCam())


class _Checks:
    """Collects what is wrong with a request."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []

    def require(self, condition: bool, field: str, description: str) -> None:
        if not condition:
            self.violations.append(Violation(field, description))

    def finish(self, reason: str | None = None) -> None:
        if self.violations:
            fields = ", ".join(violation.field for violation in self.violations)
            raise InvalidRequestError(f"unacceptable: {fields}", tuple(self.violations), reason=reason)


def to_predict_command(request: api.PredictRequest, model: DeployedModel, max_image_bytes: int) -> PredictCommand:
    """Check a request for a prediction.

    Raises:
        InvalidRequestError: with one violation for each unacceptable field.
    """
    checks = _Checks()
    top_k = _top_k(request, checks)
    _check_image(request.image, max_image_bytes, checks)
    checks.finish()
    return PredictCommand(model.name, request.image, top_k, no_cache=request.no_cache)


def to_explain_command(request: api.ExplainRequest, model: DeployedModel, max_image_bytes: int) -> ExplainCommand:
    """Check a request for an explanation against what the model's worker said of itself.

    Raises:
        InvalidRequestError: with one violation for each unacceptable field.
        MethodNotApplicableError: the method does not work on this model.
        WorkerUnavailableError: the model has never been ready.
    """
    checks = _Checks()
    top_k = _top_k(request, checks)
    _check_image(request.image, max_image_bytes, checks)
    method = request.method if request.HasField("method") else DEFAULT_METHOD
    _check_method(method, model, checks)
    _check_quality(request.quality, model, checks)
    indices, target_top_k = _targets(request.targets, model, checks)
    output = _output(request.output, checks)
    checks.finish()
    _refuse_methods(method, request.quality, model)
    return ExplainCommand(
        model=model.name,
        image=request.image,
        top_k=top_k,
        method=method,
        class_indices=indices,
        target_top_k=target_top_k,
        output=output,
        quality=request.quality,
        allow_partial=request.allow_partial,
        no_cache=request.no_cache,
    )


def _refuse_methods(method: method_pb2.Method, quality: quality_pb2.QualityOptions, model: DeployedModel) -> None:
    for each in (method, quality.compare_with):
        name = each.WhichOneof("method")
        refusal = model.refusal(name) if name is not None else None
        if refusal is not None:
            raise MethodNotApplicableError(f"{name} does not work on this model: {refusal}")


def _top_k(request: api.PredictRequest | api.ExplainRequest, checks: _Checks) -> int:
    top_k = request.top_k if request.HasField("top_k") else DEFAULT_TOP_K
    checks.require(1 <= top_k <= MAX_TOP_K, "top_k", f"must be between 1 and {MAX_TOP_K}")
    return top_k


def _check_image(image: bytes, max_bytes: int, checks: _Checks) -> None:
    checks.require(len(image) > 0, "image", "is empty")
    checks.require(len(image) <= max_bytes, "image", f"is larger than {max_bytes} bytes")


def _check_method(method: method_pb2.Method, model: DeployedModel, checks: _Checks, root: str = "method") -> None:
    name = method.WhichOneof("method")
    info = model.methods.get(name) if name is not None else None
    if model.known and info is None:
        checks.require(False, root, "names no method that this server knows; ListMethods names them")
        return
    chosen: Message = getattr(method, str(name))
    for parameter in info.parameters if info is not None else ():
        if any(field.name == parameter.name for field, _ in chosen.ListFields()):
            _check_parameter(f"{root}.{name}.{parameter.name}", getattr(chosen, parameter.name), parameter, checks)


def _check_quality(quality: quality_pb2.QualityOptions, model: DeployedModel, checks: _Checks) -> None:
    """Names and number; the worker checks the parameters against the metric's own bounds."""
    if quality.HasField("compare_with"):
        _check_method(quality.compare_with, model, checks, "quality.compare_with")
    checks.require(len(quality.metrics) <= MAX_METRICS, "quality.metrics", f"must name at most {MAX_METRICS}")
    for position, choice in enumerate(quality.metrics[:MAX_METRICS]):
        field = f"quality.metrics[{position}].name"
        info = model.metrics.get(choice.name)
        checks.require(info is not None, field, "is no metric that this server knows; ListMetrics names them")
        if info is not None and info.compares:
            second = quality.HasField("compare_with")
            checks.require(second, "quality.compare_with", f"must name a method: {info.name} compares two maps")


def _check_parameter(field: str, value: object, info: types_pb2.ParameterInfo, checks: _Checks) -> None:
    if isinstance(value, str):
        checks.require(0 < len(value) <= MAX_TEXT, field, f"must have 1 to {MAX_TEXT} characters")
    elif isinstance(value, Sequence):
        _check_list(field, value, info, checks)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        checks.require(math.isfinite(value), field, "must be finite")
        if info.HasField("minimum"):
            checks.require(value >= info.minimum, field, f"must be at least {info.minimum:g}")
        if info.HasField("maximum"):
            checks.require(value <= info.maximum, field, f"must be at most {info.maximum:g}")


def _check_list(field: str, values: Sequence[str], info: types_pb2.ParameterInfo, checks: _Checks) -> None:
    """A list of strings: how many, each of them by its position, and none twice."""
    most = int(info.maximum) if info.HasField("maximum") else MAX_ENTRIES
    if info.HasField("minimum"):
        checks.require(len(values) >= info.minimum, field, f"must have at least {info.minimum:g} entries")
    checks.require(len(values) <= most, field, f"must have at most {most} entries")
    for position, value in enumerate(values[:most]):
        correct = 0 < len(value) <= MAX_TEXT
        checks.require(correct, f"{field}[{position}]", f"must have 1 to {MAX_TEXT} characters")
    checks.require(len(set(values)) == len(values), field, "must not repeat an entry")


def _targets(targets: api.Targets, model: DeployedModel, checks: _Checks) -> tuple[tuple[int, ...], int]:
    """The class indices, or how many of the most probable classes: one of the two."""
    selection = targets.WhichOneof("selection")
    if selection is None:
        return (), 1
    if selection == "top_k":
        checks.require(1 <= targets.top_k <= MAX_TARGETS, "targets.top_k", f"must be between 1 and {MAX_TARGETS}")
        return (), targets.top_k
    references = targets.classes.classes
    checks.require(1 <= len(references) <= MAX_TARGETS, "targets.classes", f"must name 1 to {MAX_TARGETS} classes")
    found = [
        _class_index(reference, model, f"targets.classes[{position}]", checks)
        for position, reference in enumerate(references[:MAX_TARGETS])
    ]
    indices = tuple(index for index in found if index is not None)
    checks.require(len(set(indices)) == len(indices), "targets.classes", "must not repeat a class")
    return indices, 0


def _class_index(reference: api.ClassReference, model: DeployedModel, field: str, checks: _Checks) -> int | None:
    """The index that a reference means, or None after noting what is wrong with it."""
    count = model.known.class_count
    match reference.WhichOneof("reference"):
        case "index":
            checks.require(reference.index < count, f"{field}.index", f"must be between 0 and {count - 1}")
            return int(reference.index)
        case "label":
            indices = model.indices.get(reference.label, ())
            checks.require(len(indices) > 0, f"{field}.label", "is no label of this model; GetModel names them")
            checks.require(len(indices) < 2, f"{field}.label", "is the label of several classes; use the index")
            return indices[0] if indices else None
        case _:
            checks.require(False, field, "must have an index or a label")
            return None


def _output(output: api.OutputOptions, checks: _Checks) -> api.OutputOptions:
    """The options with every choice made."""
    checks.require(output.resolution in types_pb2.MapResolution.values(), "output.resolution", "is no known value")
    checks.require(output.color_map in api.ColorMap.values(), "output.color_map", "is no known value")
    opacity = output.overlay_opacity if output.HasField("overlay_opacity") else DEFAULT_OPACITY
    # Written so that NaN is refused too.
    checks.require(0.0 <= opacity <= 1.0, "output.overlay_opacity", "must be between 0 and 1")
    return api.OutputOptions(
        resolution=output.resolution or types_pb2.MAP_RESOLUTION_NATIVE,
        map_png=output.map_png,
        overlay_png=output.overlay_png,
        color_map=output.color_map or api.COLOR_MAP_VIRIDIS,
        overlay_opacity=opacity,
    )
