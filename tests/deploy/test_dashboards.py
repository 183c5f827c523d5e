"""The dashboards are whole, and ask only for what exists. tests/e2e/test_prometheus.py asks their queries."""

from pathlib import Path

import pytest
import yaml

from tests.deploy.exposition import everything, sample_names
from tests.deploy.queries import (
    DASHBOARDS,
    DEPLOY,
    Panel,
    dashboard,
    label_queries,
    metric_names,
    panels,
    recordings,
    variables_in,
)

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
WIDTH = 24
BUILT_IN = {"__rate_interval", "__interval", "__range"}
PANELS = pytest.mark.parametrize("panel", list(panels()), ids=lambda panel: f"{panel.dashboard}: {panel.title}")
FILES = pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)


def known() -> set[str]:
    return sample_names(everything()) | {rule.name for rule in recordings()} | {"up", "ALERTS"}


def test_there_are_two_dashboards_with_uids_of_their_own() -> None:
    """Service and explanation quality: two files, two uids, two titles."""
    loaded = [dashboard(path) for path in DASHBOARDS]
    assert [path.stem for path in DASHBOARDS] == ["explanation_quality", "service"]
    assert len({each["uid"] for each in loaded}) == len({each["title"] for each in loaded}) == 2


@FILES
def test_a_dashboard_can_be_provisioned(path: Path) -> None:
    """No id of some other Grafana, a schema version, unique panel ids, and links to dashboards that exist."""
    loaded = dashboard(path)
    assert loaded["id"] is None
    assert loaded["schemaVersion"] >= 36
    ids = [panel["id"] for panel in loaded["panels"]]
    assert len(set(ids)) == len(ids)
    uids = {dashboard(each)["uid"] for each in DASHBOARDS}
    assert {link["url"].removeprefix("/d/") for link in loaded["links"]} <= uids - {loaded["uid"]}


@FILES
def test_panels_do_not_overlap(path: Path) -> None:
    """Every cell of the grid belongs to one panel at most."""
    taken: set[tuple[int, int]] = set()
    for panel in dashboard(path)["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= WIDTH
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken
        taken |= cells


@PANELS
def test_a_panel_says_what_it_shows(panel: Panel) -> None:
    """Title, description, unit, at least one query with a name of its own, all from the chosen data source."""
    body = panel.body
    assert body["title"]
    assert body["description"]
    assert body["fieldConfig"]["defaults"]["unit"]
    assert body["datasource"] == SOURCE
    assert panel.exprs
    assert all(expr.strip() for expr in panel.exprs)
    assert all(target["datasource"] == SOURCE and target["legendFormat"] for target in body["targets"])
    names = [target["refId"] for target in body["targets"]]
    assert len(set(names)) == len(names)


@PANELS
def test_panels_ask_only_for_what_exists(panel: Panel) -> None:
    """Each metric in a query is the service's, a recording rule's, or Prometheus's own."""
    for expr in panel.exprs:
        assert metric_names(expr)
        assert metric_names(expr) <= known()


@FILES
def test_variables_are_declared_and_used(path: Path) -> None:
    """A query uses only variables that the dashboard or Grafana has, every one has a use, and their queries fit."""
    loaded = dashboard(path)
    declared = {variable["name"] for variable in loaded["templating"]["list"]}
    used = variables_in(path)
    assert used - BUILT_IN == declared
    for selector, label in label_queries(path):
        assert metric_names(selector) <= known()
        assert label in ("job", "model", "method")


def test_the_provisioning_finds_the_dashboards() -> None:
    """Both files are in Grafana's format of version 1, and say by environment what differs from place to place."""
    provisioning = DEPLOY / "grafana" / "provisioning"
    source = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())
    provider = yaml.safe_load((provisioning / "dashboards" / "whylight.yml").read_text())
    assert source["apiVersion"] == provider["apiVersion"] == 1
    assert [each["type"] for each in source["datasources"]] == ["prometheus"]
    assert source["datasources"][0]["url"] == "${WHYLIGHT_PROMETHEUS_URL}"
    assert [(each["type"], each["options"]["path"]) for each in provider["providers"]] == [
        ("file", "${WHYLIGHT_DASHBOARDS}")
    ]
