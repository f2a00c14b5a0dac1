"""Prometheus scrapes a node, takes our rules, answers what our dashboard asks, and alerts."""

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.nodes import NodeProcess
from tests.peers import free_port, wait_until

EXAMPLES = Path(__file__).parents[2] / "config" / "examples"
#: More than any disk has, so that the alert of a full one fires at once.
NO_ROOM_MB = 1 << 40


@dataclass(frozen=True)
class Prometheus:
    """One that is running."""

    port: int

    def get(self, path: str, **asked: str) -> Any:
        """What its HTTP interface answers."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(asked)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def sample(self, expression: str) -> float | None:
        """The value of an expression that has one; None while it has none."""
        found = self.get("query", query=expression)["result"]
        return float(found[0]["value"][1]) if found else None


@contextmanager
def prometheus(folder: Path, scraped: int) -> Iterator[Prometheus]:
    """Debian's, with our rules, looking at a node every second."""
    folder.mkdir()
    rules = yaml.safe_dump([str(EXAMPLES / "prometheus-alerts.yaml")])
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
        "scrape_configs:\n"
        f"  - {{job_name: fullfield, static_configs: [{{targets: ['127.0.0.1:{scraped}']}}]}}\n"
        f"rule_files:\n{rules}"
    )
    port = free_port()
    command = ["prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"],
            stdout=log,
            stderr=log,
        )
    here = Prometheus(port)
    try:
        wait_until(lambda: _answers(here), what="Prometheus")
        yield here
    finally:
        process.terminate()
        process.wait(60)


def _answers(here: Prometheus) -> bool:
    try:
        return bool(here.get("status/runtimeinfo"))
    except OSError:
        return False


@pytest.fixture(scope="module")
def watching(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    folder, web = tmp_path_factory.mktemp("watched"), free_port()
    node = NodeProcess(
        folder / "node", {"pacs": 1}, worker={"processes": 0}, web={"port": web}, storage={"full_below_mb": NO_ROOM_MB}
    )
    with node.running(), prometheus(folder / "prometheus", web) as here:
        wait_until(lambda: here.sample('up{job="fullfield"}') == 1, what="a scrape")
        yield here


def test_what_a_node_tells_is_taken(watching: Prometheus) -> None:
    (target,) = watching.get("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    assert watching.sample("fullfield_database_up") == 1
    assert watching.sample('fullfield_steps_total{action="node_started"}') == 1


def test_every_rule_is_evaluated_without_an_error(watching: Prometheus) -> None:
    def judged() -> list[dict[str, Any]]:
        (group,) = watching.get("rules")["groups"]
        return group["rules"] if all(rule["health"] != "unknown" for rule in group["rules"]) else []

    assert {rule["lastError"] for rule in wait_until(judged, what="the rules") if "lastError" in rule} <= {""}


def test_the_disk_is_low_where_the_node_says_so(tmp_path: Path) -> None:
    def fires(free: int) -> dict[str, Any]:
        limits = {"free": free, "low_below": 5, "full_below": 1}
        series = [{"series": f"fullfield_disk_{name}_bytes", "values": f"{n}x20"} for name, n in limits.items()]
        alert = {
            "exp_annotations": {"summary": "The disk of  will be full soon."},
            "exp_labels": {"severity": "warning"},
        }
        asked = {"eval_time": "15m", "alertname": "FullfieldDiskLow", "exp_alerts": [alert] if free < 5 else []}
        return {"interval": "1m", "input_series": series, "alert_rule_test": [asked]}

    rules = tmp_path / "rules.yaml"
    rules.write_text(
        yaml.safe_dump({"rule_files": [str(EXAMPLES / "prometheus-alerts.yaml")], "tests": [*map(fires, (4, 6))]})
    )
    done = subprocess.run(["promtool", "test", "rules", rules], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_fires_and_says_what_is_wrong(watching: Prometheus) -> None:
    def fires() -> list[dict[str, Any]]:
        alerts = watching.get("alerts")["alerts"]
        return [alert for alert in alerts if alert["labels"]["alertname"] == "FullfieldDiskFull"]

    (alert,) = wait_until(fires, what="the alert")
    assert alert["state"] == "firing"
    assert alert["annotations"]["summary"].startswith("The disk of 127.0.0.1:")


def test_what_the_dashboard_asks_can_be_answered(watching: Prometheus) -> None:
    panels = json.loads((EXAMPLES / "grafana-dashboard.json").read_text())["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    for expression in asked:
        watching.get("query", query=expression.replace("$__rate_interval", "1m").replace("$__range", "1h"))
    assert len(asked) > 10
