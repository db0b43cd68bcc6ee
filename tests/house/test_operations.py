"""What operators read and import fits the code: the pages on metrics, settings and alerts, and the dashboard."""

from __future__ import annotations

import ast
import json
import re
from itertools import combinations
from typing import Any, Final

import pytest

from actors.metering import METRICS
from ops.metrics import GAUGES
from ops.settings import Settings
from tests.house.sources import STOREYS, modules, read

SUFFIXES: Final = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
LABELS: Final = (
    {f"{each.name}_total": {each.label} - {""} for each in METRICS if not each.bounds}
    | {each.name + suffix: {each.label, "le"} for each in METRICS if each.bounds for suffix in SUFFIXES["histogram"]}
    | {each.name: set(each.labels) for each in GAUGES}
)
"""The labels of every sample that a scrape may show."""
NAMED: Final = re.compile(r"\bpenstock_[a-z_]+\b")
DASHBOARD: Final = "ops/grafana/penstock.json"


def panels() -> list[dict[str, Any]]:
    """Return the panels of the dashboard that show something."""
    return [panel for panel in json.loads(read(DASHBOARD))["panels"] if panel["type"] != "row"]


def expressions() -> list[str]:
    """Return every query of the dashboard."""
    return [target["expr"] for panel in panels() for target in panel["targets"]]


# --- metrics ----------------------------------------------------------------------------------------------------------


def test_the_page_on_metrics_has_each_with_its_labels() -> None:
    """docs/metrics.md is the contract: a row a metric, and the values that its label has from the start."""
    rows = re.findall(r"^\| `(penstock_\w+)` \| ([^|]*)\| (.*) \|$", read("docs/metrics.md"), re.MULTILINE)
    documented = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels, _ in rows}
    histograms = {each.name: {each.label} - {""} for each in METRICS if each.bounds}
    expected = {name: labels for name, labels in LABELS.items() if "le" not in labels} | histograms
    assert documented == expected
    texts = {name: text for name, _, text in rows}
    unsaid = [
        (each.name, value)
        for each in METRICS
        if not each.bounds and each.label
        for value in each.values
        if f"`{value}`" not in texts[f"{each.name}_total"]
    ]
    assert not unsaid


@pytest.mark.parametrize("page", ["docs/metrics.md", "docs/operating.md"])
def test_the_pages_name_no_metric_that_is_gone(page: str) -> None:
    """An alert on a metric that does not exist never fires."""
    histograms = {each.name for each in METRICS if each.bounds}
    named = {name for name in NAMED.findall(read(page)) if not name.endswith("_")}
    assert named
    assert named <= LABELS.keys() | histograms


# --- the dashboard ----------------------------------------------------------------------------------------------------


def test_the_dashboard_asks_for_metrics_and_labels_that_exist() -> None:
    """Every query names samples of ours, and selects and groups by labels that they have."""
    for expression in expressions():
        names = NAMED.findall(expression)
        assert names, expression
        assert set(names) <= LABELS.keys(), expression
        labels = set().union(*(LABELS[name] for name in names))
        used = re.findall(r"by \(([^)]*)\)", expression)
        selected = re.findall(r"(\w+)=~?\"", expression)
        assert {label.strip() for group in used for label in group.split(",")} | set(selected) <= labels, expression


def test_the_dashboard_shows_every_metric() -> None:
    """What is measured can be looked at; histograms by any of their samples."""
    shown = {name for expression in expressions() for name in NAMED.findall(expression)}
    histograms = [{each.name + suffix for suffix in SUFFIXES["histogram"]} for each in METRICS if each.bounds]
    expected = set(LABELS) - set().union(*histograms) - {"penstock_build_info"}
    assert expected <= shown
    assert all(shown & samples for samples in histograms)


def test_grafana_can_import_the_dashboard() -> None:
    """It has what Grafana's schema asks for: a data source to choose, and panels side by side."""
    board = json.loads(read(DASHBOARD))
    assert {"title", "uid", "schemaVersion", "version", "time", "templating", "panels"} <= board.keys()
    (variable,) = board["templating"]["list"]
    assert (variable["name"], variable["type"], variable["query"]) == ("datasource", "datasource", "prometheus")
    identities = [panel["id"] for panel in board["panels"]]
    assert len(set(identities)) == len(identities)
    for panel in panels():
        assert {"title", "description", "type", "gridPos", "fieldConfig", "options", "targets"} <= panel.keys()
        for item in (panel, *panel["targets"]):
            assert item["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references)
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24


def test_no_panel_lies_on_another() -> None:
    """The grid is as it looks after the import."""
    places = [panel["gridPos"] for panel in json.loads(read(DASHBOARD))["panels"]]
    overlapping = [
        (one, other)
        for one, other in combinations(places, 2)
        if one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    ]
    assert not overlapping


# --- settings ---------------------------------------------------------------------------------------------------------


def documented_settings() -> dict[str, str]:
    """Return the rows of docs/configuration.md: the default of every variable, as it is written there."""
    rows = re.findall(r"^\| `([A-Z_]+)` \| ([^|]*) \|", read("docs/configuration.md"), re.MULTILINE)
    assert len(rows) == len(dict(rows)), "a variable has two rows"
    return dict(rows)


def test_every_setting_is_on_the_page_and_nothing_else() -> None:
    """docs/configuration.md has a row for each variable (R66)."""
    assert sorted(documented_settings()) == sorted(name.upper() for name in Settings.model_fields)


def test_the_page_and_the_example_give_the_same_defaults() -> None:
    """Both say what holds when nothing is set; a default that depends on the machine is in words."""
    example = dict(re.findall(r"^#([A-Z_]+)=(.*)$", read(".env.example"), re.MULTILINE))
    shown = {name: default.strip("`") for name, default in documented_settings().items() if default.startswith("`")}
    assert shown == {name: value for name, value in example.items() if value}


def test_every_row_says_who_reads_the_setting_and_when_to_change_it() -> None:
    """Five cells a row: variable, default, meaning, read by, when to change (R66)."""
    rows = [line for line in read("docs/configuration.md").splitlines() if re.match(r"\| `[A-Z]", line)]
    for row in rows:
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert len(cells) == 5, row
        assert all(cells), row


def test_every_setting_is_read() -> None:
    """A variable that nothing reads would be a promise without a keeper (R66)."""
    read_names = {
        node.attr
        for module in modules(*STOREYS)
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    assert not set(Settings.model_fields) - read_names
