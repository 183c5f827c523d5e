"""Prometheus accepts the configuration and the rules, and each alert fires when it should and only then."""

import re
import subprocess

import pytest
import yaml

from tests.deploy.exposition import everything, sample_names, text
from tests.deploy.prometheus_tools import ROOT, PrometheusTools
from tests.deploy.queries import CONFIG, RULE_TESTS, RULES, Rule, alerts, metric_names, recordings, rules

OPERATIONS = ROOT / "docs" / "operations.md"


def said(done: "subprocess.CompletedProcess[bytes]") -> str:
    return (done.stdout + done.stderr).decode()


def test_prometheus_accepts_the_configuration(tools: PrometheusTools) -> None:
    """`promtool check config` finds the rule files by the patterns in prometheus.yml."""
    done = tools.check("check", "config", CONFIG)
    assert done.returncode == 0, said(done)
    assert f"{len(RULES)} rule files found" in said(done)


def test_prometheus_accepts_the_rules(tools: PrometheusTools) -> None:
    """`promtool check rules` has no objection, duplicates included."""
    done = tools.check("check", "rules", "--lint=all", "--lint-fatal", *RULES)
    assert done.returncode == 0, said(done)


def test_the_alerts_fire_when_they_should(tools: PrometheusTools) -> None:
    """`promtool test rules`: series are made up, and every alert is asked for at given times."""
    done = tools.check("test", "rules", *RULE_TESTS)
    assert done.returncode == 0, said(done)


def test_the_metrics_follow_the_conventions(tools: PrometheusTools) -> None:
    """`promtool check metrics` finds nothing to say about what a scrape gets."""
    done = tools.check("check", "metrics", stdin=text(everything()))
    assert (done.returncode, said(done)) == (0, "")


def test_the_conventions_are_really_checked(tools: PrometheusTools) -> None:
    """A counter without _total is objected to: the test above can fail."""
    done = tools.check("check", "metrics", stdin=b"# HELP bad Text.\n# TYPE bad counter\nbad 1\n")
    assert done.returncode != 0


@pytest.mark.parametrize("alert", sorted({rule.name for rule in alerts()}))
def test_each_alert_is_tested_both_ways(alert: str) -> None:
    """Some promtool test expects it to fire, and some other expects silence."""
    tests = [test for path in RULE_TESTS for test in yaml.safe_load(path.read_text())["tests"]]
    asked = [each for test in tests for each in test.get("alert_rule_test", []) if each["alertname"] == alert]
    assert any(each.get("exp_alerts") for each in asked)
    assert any(not each.get("exp_alerts") for each in asked)


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule.name)
def test_each_alert_says_what_to_do(rule: Rule) -> None:
    """Severity, summary, description, and a runbook that exists."""
    assert rule.body["labels"]["severity"] in ("critical", "warning")
    annotations = rule.body["annotations"]
    assert set(annotations) == {"summary", "description", "runbook"}
    assert annotations["runbook"] == f"docs/operations.md#{rule.name.lower()}"
    assert f"\n### {rule.name}\n" in OPERATIONS.read_text()


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.name)
def test_rules_ask_only_for_what_exists(rule: Rule) -> None:
    """Each metric in a rule is the service's, another rule's, or Prometheus's own `up`."""
    known = sample_names(everything()) | {each.name for each in recordings()} | {"up"}
    assert metric_names(rule.expr)
    assert metric_names(rule.expr) <= known


def test_names_are_found_in_queries() -> None:
    """The parser that the tests here rely on sees metrics, and neither labels, strings, functions nor durations."""
    expr = 'sum by (job, le) (rate(a_total{x=~"b_total|c"}[5m] offset 1h)) / on (job) group_left (y) (d:e:f > 0) or g'
    assert metric_names(expr) == {"a_total", "d:e:f", "g"}


def test_every_metric_is_explained() -> None:
    """The table in docs/operations.md has the metrics that the service exports, all of them and no others."""
    exported = {
        family.name + ("_total" if family.type == "counter" else "") for family in everything().registry.collect()
    }
    documented = set(re.findall(r"^\| `([a-z]+_\w+)` \|", OPERATIONS.read_text(), re.MULTILINE))
    assert documented == exported
