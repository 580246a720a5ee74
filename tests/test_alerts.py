"""Alerts, configuration, figures and dashboard, as Prometheus's own promtool sees them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import yaml

from catalog.batches import Counts
from dev.stack import ROOT
from tests.test_metrics import DASHBOARD, ended, scraped
from tests.web_parts import Web, lite

__all__ = ["lite"]
FOLDER = ROOT / "deploy" / "prometheus"


def promtool(*words: str, given: str = "", folder: Path = FOLDER) -> subprocess.CompletedProcess[str]:
    """Run promtool."""
    found = shutil.which("promtool") or shutil.which(str(ROOT / ".venv/bin/promtool"))
    assert found, "there is no promtool: `make promtool` fetches it"
    return subprocess.run(
        [found, *words], cwd=folder, input=given, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )


def test_rules_and_configuration_are_well_formed() -> None:
    """promtool takes the alert rules, every expression and template in them included, and the configuration that names them."""
    for words in (("check", "rules", "alerts.yml"), ("check", "config", "--syntax-only", "prometheus.yml")):
        checked = promtool(*words)
        assert checked.returncode == 0 and "SUCCESS" in checked.stdout, checked.stdout


def test_alerts_fire_when_they_should() -> None:
    """On series of figures that promtool plays to the rules, each alert fires, with the words it should have, and not before."""
    played = promtool("test", "rules", "alerts.test.yml")
    assert played.returncode == 0, played.stdout
    rules = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))["groups"][0]["rules"]
    tests = yaml.safe_load((FOLDER / "alerts.test.yml").read_text(encoding="utf-8"))["tests"]
    firing = {case["alertname"] for test in tests for case in test["alert_rule_test"] if case.get("exp_alerts")}
    silent = {case["alertname"] for test in tests for case in test["alert_rule_test"] if not case.get("exp_alerts")}
    assert firing == silent == {rule["alert"] for rule in rules}


def test_a_wrong_rule_is_noticed(tmp_path: Path) -> None:
    """promtool refuses what Prometheus would: an expression that is none, a template without a function of that name."""
    rules = (FOLDER / "alerts.yml").read_text(encoding="utf-8")
    for right, wrong in (("min by (part)", "min bye (part)"), ("humanizePercentage", "humanise")):
        assert right in rules
        (tmp_path / "alerts.yml").write_text(rules.replace(right, wrong))
        assert promtool("check", "rules", "alerts.yml", folder=tmp_path).returncode != 0


def test_figures_are_as_prometheus_wants_them(lite: Web) -> None:
    """promtool's linter has nothing to say of what /metrics gives."""
    ended(lite, Counts(input=1, created=1))
    checked = promtool("check", "metrics", given=scraped(lite))
    assert (checked.returncode, checked.stdout) == (0, "")


def test_panels_ask_what_can_be_asked(tmp_path: Path) -> None:
    """Each expression of the dashboard is one that Prometheus can answer, once Grafana has put its interval in."""
    asked = [target["expr"].replace("$__rate_interval", "5m") for panel in DASHBOARD["panels"] for target in panel["targets"]]
    rules = [{"record": f"panel:{n}", "expr": expr} for n, expr in enumerate(asked)]
    (tmp_path / "panel.yml").write_text(json.dumps({"groups": [{"name": "panel", "rules": rules}]}))
    checked = promtool("check", "rules", "panel.yml", folder=tmp_path)
    assert checked.returncode == 0 and f"{len(asked)} rules found" in checked.stdout, checked.stdout
