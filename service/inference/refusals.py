"""What is wrong with a request, said in the protocol's own terms.

Stock clients show nothing but a status's text. So it holds every violation, which explain.v1 leaves to the details.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import islice

from service.errors import InvalidRequestError, Violation

_MOST = 8  # violations that are told: a status has to fit into a header
_HARMLESS_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_IMAGE = "image"
_METRIC = re.compile(r"quality\.metrics\[(\d+)\]\.(?:name|parameters(\.\w+)?)")
# From the fields of explain.v1's requests to those of ModelInferRequest; the first that fits counts.
_FIELDS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"targets\.top_k", "parameters.target_top_k"),
        (r"targets\..*", "parameters.target"),
        (r"method\.\w+\.(.*)", r"parameters.\1"),
        (r"quality\.metrics\b.*", "parameters.quality"),
        (r"quality\.compare_with\b.*", "parameters.compare_with"),
        (r"output\.(\w+)", r"parameters.\1"),
        (r"(\w+)", r"parameters.\1"),
    )
)


def refuse(violations: Iterable[Violation], reason: str | None = None) -> InvalidRequestError:
    """The error that names the violations, the first few where there are many."""
    found = tuple(islice(violations, _MOST))
    text = "; ".join(f"{each.field} {each.description}" for each in found)
    return InvalidRequestError(f"unacceptable: {text}", found, reason=reason)


def shown(name: str) -> str:
    """A name out of a request as it may stand in an answer."""
    return name if _HARMLESS_NAME.fullmatch(name) else "?"


def in_our_terms(error: InvalidRequestError, metrics: Sequence[str], image: int | None) -> InvalidRequestError:
    """What is wrong with the request to explain.v1 that a request was made into, said of the request itself.

    Args:
        error: that explain.v1 raised.
        metrics: names of those that it was asked for.
        image: position of the image; None where there is but one.
    """
    if not error.violations:
        return error
    found = (Violation(_renamed(each.field, metrics, image), each.description) for each in error.violations)
    return refuse(found, error.reason)


def _renamed(field: str, metrics: Sequence[str], image: int | None) -> str:
    if field == _IMAGE:
        return "inputs[0]" if image is None else f"inputs[0][{image}]"
    metric = _METRIC.fullmatch(field)
    if metric is not None and int(metric[1]) < len(metrics):
        return f"parameters.quality.{shown(metrics[int(metric[1])])}{metric[2] or ''}"
    for pattern, replacement in _FIELDS:
        if pattern.fullmatch(field):
            return pattern.sub(replacement, field)
    return field
