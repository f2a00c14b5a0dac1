"""Alert rules and dashboard ask only for what a node tells."""

import json
import re
from functools import cache
from pathlib import Path

import pytest
import yaml

from dicom_node.audit import Action
from dicom_node.commands.metrics_reference import metrics
from storage.figures import UNFINISHED

EXAMPLES = Path(__file__).parents[2] / "config" / "examples"
SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}

#: What the labels of the metrics may be.
VALUES = {
    "action": {action.value for action in Action},
    "outcome": {"success", "refused", "failed"},
    "state": {state.value for state in UNFINISHED},
    "job": {"fullfield"},
}


@cache
def told() -> set[str]:
    return {metric.name + suffix for metric in metrics() for suffix in SUFFIXES[metric.type]}


def alerts() -> dict[str, str]:
    (group,) = yaml.safe_load((EXAMPLES / "prometheus-alerts.yaml").read_text())["groups"]
    return {rule["alert"]: rule["expr"] for rule in group["rules"]}


def panels() -> dict[str, str]:
    dashboard = json.loads((EXAMPLES / "grafana-dashboard.json").read_text())
    return {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard["panels"]
        for target in panel["targets"]
    }


@pytest.mark.parametrize("expression", (asked := alerts() | panels()).values(), ids=asked.keys())
def test_every_metric_that_is_asked_for_is_told(expression):
    named = set(re.findall(r"\bfullfield_\w+", expression))
    assert named <= told()
    assert named or "up{" in expression
    assert expression.count("(") == expression.count(")")


@pytest.mark.parametrize("expression", asked.values(), ids=asked.keys())
def test_every_label_that_is_asked_for_can_have_its_value(expression):
    for label, values in re.findall(r'(\w+)=~?"([^"]+)"', expression):
        assert set(values.split("|")) <= VALUES[label]


def test_every_alert_says_what_is_wrong_and_how_bad_it_is():
    (group,) = yaml.safe_load((EXAMPLES / "prometheus-alerts.yaml").read_text())["groups"]
    for rule in group["rules"]:
        assert rule["labels"]["severity"] in ("warning", "critical")
        assert rule["annotations"]["summary"].endswith(".")


def test_every_panel_has_a_place_of_its_own():
    dashboard = json.loads((EXAMPLES / "grafana-dashboard.json").read_text())
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
    assert len(set(places)) == len(places)
