"""What is shipped for Prometheus and Grafana: it names nothing that the server does not tell."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from factory.metrics_page import PAGE, families, page
from tests.deploy.promtool import promtool

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = PROMETHEUS / "atelier.rules.yml"
DASHBOARD = ROOT / "deploy" / "grafana" / "atelier.json"
_NAME = re.compile(r"\b(?:atelier|process|python)_[a-z0-9_]+")
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count")}


@pytest.fixture(scope="module")
def told() -> dict[str, set[str]]:
    """Every name that can be asked for, with the labels that its series have now."""
    found: dict[str, set[str]] = {}
    for family in families():
        labels = {label for sample in family.samples for label in sample.labels}
        for suffix in _SUFFIXES.get(family.type, ("",)):
            found[family.name + suffix] = labels
    return found


def run(*arguments: str) -> tuple[int, str]:
    """What promtool says, and its exit status."""
    done = subprocess.run([promtool(), *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


def alerts() -> list[tuple[str, str]]:
    """Each alert's name and its block of text, its expression and annotations in it."""
    blocks = re.split(r"^ +- alert: ", RULES.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    return [(block.split("\n", 1)[0].strip(), block) for block in blocks]


def panels() -> list[dict[str, Any]]:
    """The dashboard's, but for its headings."""
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def expressions() -> Iterator[tuple[str, str]]:
    """Every query of the dashboard, with its panel's title."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], target["expr"]


def test_the_rules_and_the_configuration_can_be_read() -> None:
    """By Prometheus's own checker."""
    status, said = run("check", "rules", RULES.name)
    assert status == 0, said
    status, said = run("check", "config", "--syntax-only", "prometheus.yml")
    assert status == 0, said


def test_the_alerts_come_when_they_should() -> None:
    """And not for a fleet that works: the unit tests beside them pass."""
    status, said = run("test", "rules", "atelier.rules.test.yml")
    assert status == 0, said


def test_every_alert_is_tested_and_says_what_to_do() -> None:
    """By its name in the unit tests, and with a summary and a runbook of a sentence or more."""
    tests = (PROMETHEUS / "atelier.rules.test.yml").read_text(encoding="utf-8")
    assert len(alerts()) >= 15
    for name, block in alerts():
        assert name in tests, f"{name} is not tested"
        runbook = re.search(r'^ +runbook: "(.+)"$', block, flags=re.MULTILINE)
        assert runbook, name
        assert len(runbook[1]) > 60, f"{name} does not say what to do"
        assert "summary:" in block, name
        assert re.search(r"severity: (page|ticket)", block), name


def test_the_rules_name_what_is_there(told: dict[str, set[str]]) -> None:
    """A metric that is renamed takes its alerts along."""
    for name, block in alerts():
        expression = block.split("labels:")[0]
        names = set(_NAME.findall(expression)) - {"job"}
        assert names <= told.keys(), f"{name}: {names - told.keys()}"
        assert names or 'up{job="atelier"}' in expression, name


def test_the_dashboard_names_what_is_there(told: dict[str, set[str]]) -> None:
    """Every query of every panel, with labels that the series have."""
    for title, expression in expressions():
        names = set(_NAME.findall(expression))
        assert names, title
        assert names <= told.keys(), f"{title}: {names - told.keys()}"
        for name, labels in re.findall(r"\b((?:atelier|process)_[a-z0-9_]+)\{([^}]*)\}", expression):
            asked = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", labels)) - {"instance", "job"}
            assert not told[name] or asked <= told[name], f"{title}: {name} has no {asked - told[name]}"


def test_the_dashboard_s_queries_can_be_read(tmp_path: Path) -> None:
    """As rules they pass promtool, Grafana's variables filled in."""
    lines = ["groups:", "  - name: dashboard", "    rules:"]
    for number, (_, expression) in enumerate(expressions()):
        filled = expression.replace("$__rate_interval", "5m").replace("$instance", ".*")
        lines += [f"      - record: panel:query:{number}", f"        expr: {json.dumps(filled)}"]
    file = tmp_path / "dashboard.yml"
    file.write_text("\n".join(lines), encoding="utf-8")
    status, said = run("check", "rules", str(file))
    assert status == 0, said


def test_the_dashboard_shows_what_an_operator_watches() -> None:
    """No two panels of one place or one number, each with a title, on a grid of 24."""
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(places) == len(set(places))
    assert all(panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24 for panel in board["panels"])
    queries = " ".join(expression for _, expression in expressions())
    for watched in (
        "atelier_job_processing_seconds", "atelier_device_memory_used_bytes", "atelier_device_utilisation_ratio",
        "atelier_records_jobs", "atelier_jobs_ended_total", "atelier_engine_step_seconds_count", "atelier_reactor_lag_seconds",
        "atelier_outbox_oldest_seconds", "atelier_webhook_calls_total", "atelier_storage_seconds",
        "atelier_amqp_dead_letters_total",
    ):  # fmt: skip
        assert watched in queries, watched


def test_every_query_of_the_documentation_names_what_is_there(told: dict[str, set[str]]) -> None:
    """Those of the table of what to watch, up to the list of all."""
    head = PAGE.read_text(encoding="utf-8").split("## Every family")[0]
    queries = " ".join(re.findall(r"^\| [^|`]+ \| (.+) \|$", head, flags=re.MULTILINE))
    names = set(_NAME.findall(queries))
    assert len(names) > 8
    assert names <= told.keys(), names - told.keys()


def test_the_documentation_has_every_family() -> None:
    """`make docs` changes nothing."""
    text = PAGE.read_text(encoding="utf-8")
    assert page(text, families()) == text
