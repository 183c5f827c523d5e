"""What the rules and the dashboards ask, and which names they ask for."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.prometheus_tools import ROOT

DEPLOY = ROOT / "deploy"
CONFIG = DEPLOY / "prometheus" / "prometheus.yml"
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
RULE_TESTS = sorted((DEPLOY / "prometheus" / "tests").glob("*.yml"))
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'')
_BRACES = re.compile(r"\{[^{}]*\}")
_LABELS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^()]*\)")
_DURATION = re.compile(r"\[[^\[\]]*\]|\boffset\s+\S+")
_NAME = re.compile(r"(?<![\w:$.])[a-zA-Z_:][\w:]*(?![\w:]|\s*\()")
_WORDS = {"and", "or", "unless", "bool", "inf", "nan", "by", "without", "on", "ignoring", "group_left", "group_right"}


@dataclass(frozen=True)
class Rule:
    """A recording rule (`record`) or an alert (`alert`)."""

    name: str
    expr: str
    is_alert: bool
    body: dict[str, Any]


@dataclass(frozen=True)
class Panel:
    """A panel of a dashboard with its queries."""

    dashboard: str
    title: str
    exprs: tuple[str, ...]
    body: dict[str, Any]


def rules() -> list[Rule]:
    """Every rule of every file."""
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [
        Rule(each.get("record") or each["alert"], each["expr"], "alert" in each, each)
        for group in groups
        for each in group["rules"]
    ]


def recordings() -> list[Rule]:
    return [rule for rule in rules() if not rule.is_alert]


def alerts() -> list[Rule]:
    return [rule for rule in rules() if rule.is_alert]


def dashboard(path: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def panels() -> Iterator[Panel]:
    """Every panel of every dashboard that shows data."""
    for path in DASHBOARDS:
        for body in dashboard(path)["panels"]:
            if body["type"] != "row":
                exprs = tuple(target["expr"] for target in body["targets"])
                yield Panel(path.stem, body["title"], exprs, body)


def metric_names(expr: str) -> set[str]:
    """The metrics that an expression reads: what is left of it without strings, labels, durations and functions."""
    for pattern in (_STRING, _BRACES, _LABELS, _DURATION):
        expr = pattern.sub(" ", expr)
    return {name for name in _NAME.findall(expr) if name.lower() not in _WORDS}


def looking_back() -> set[str]:
    """The recording rules that need hours of data: those with an offset."""
    return {rule.name for rule in recordings() if re.search(r"\boffset\b", rule.expr)}


def variables_in(path: Path) -> set[str]:
    """The variables that a dashboard uses anywhere but where it declares them."""
    loaded = dashboard(path)
    texts = [json.dumps({**loaded, "templating": {}})] + [
        json.dumps([variable.get("query"), variable.get("datasource")]) for variable in loaded["templating"]["list"]
    ]
    return {name for text in texts for name in re.findall(r"\$\{?(\w+)", text)}


def label_queries(path: Path) -> list[tuple[str, str]]:
    """The selectors and labels out of which a dashboard's variables take their values."""
    variables = [each for each in dashboard(path)["templating"]["list"] if each["type"] == "query"]
    found = [re.fullmatch(r"label_values\((.+), (\w+)\)", each["query"]["query"]) for each in variables]
    return [(match.group(1), match.group(2)) for match in found if match is not None]


def filled(expr: str, path: Path, values: dict[str, str]) -> str:
    """An expression with its variables replaced: by `values`, else by the variable's own default."""
    defaults = {
        variable["name"]: variable.get("allValue") or variable["current"]["value"]
        for variable in dashboard(path)["templating"]["list"]
    }
    return re.sub(r"\$\{?(\w+)\}?", lambda match: {**defaults, **values}[match.group(1)], expr)
