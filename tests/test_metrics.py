"""Figures for Prometheus, and the dashboard and alerts that are made of them."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
import yaml

import clock
from catalog import batches, keys, metrics
from catalog.batches import Counts, Mode, Options, State
from catalog.expiry import expire_batches
from dev.stack import ROOT
from tests.web_parts import Web, lite, web

__all__ = ["lite", "web"]
LANE = [(None, "airlines")]
SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\[\\n"])*",?)*)\})? (\S+)')
RULES: dict[str, Any] = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))
DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/lading.json").read_text(encoding="utf-8"))


def scraped(web: Web) -> str:
    """Fetch the figures, as Prometheus does."""
    token = keys.create(web.catalog, "prometheus", ["read:all"])
    reply = web.app.test_client().get("/metrics", headers={"Authorization": f"Bearer {token}"})
    assert (reply.status_code, reply.mimetype) == (200, "text/plain")
    return reply.text


def samples(text: str) -> dict[str, float]:
    """Return the figures by name and labels; AssertionError where a line is none."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            match = SAMPLE.fullmatch(line)
            assert match, line
            name = match[1] + (f"{{{match[2]}}}" if match[2] else "")
            assert name not in found, f"{name} twice"
            found[name] = float(match[3])
    return found


def ended(web: Web, counts: Counts, mode: Mode = Mode.IMPORT, state: State = State.COMPLETED, claims: int = 0) -> int:
    """Make a batch with one file, unless one is given, and carry it out in name."""
    batch_id = claims or int(web.ready())
    if not claims:
        batches.schedule(web.catalog, batch_id, Options(mode), LANE)
    claim = batches.claim(web.catalog, "w", 30)
    assert claim is not None
    assert batches.finish(web.catalog, batch_id, claim.fence, state=state, counts=counts)
    return batch_id


def test_the_figures_are_what_happened(web: Web) -> None:
    """Batches by state, records by outcome, bytes, times, take-overs and parts: all as the catalog has them."""
    ended(web, Counts(input=10, created=4, updated=3, skipped=1, errors=2))
    ended(web, Counts(input=5, created=5), Mode.DRY_RUN)
    ended(web, Counts(input=1, unprocessed=1), state=State.FAILED)
    web.ready()
    found = samples(scraped(web))
    assert found['lading_batches{state="completed"}'] == 2
    assert found['lading_batches{state="uploading"}'] == found['lading_batches{state="failed"}'] == 1
    of_imports = {name: found[f'lading_records_total{{mode="import",outcome="{name}"}}'] for name in ("created", "errors", "unprocessed")}
    assert of_imports == {"created": 4, "errors": 2, "unprocessed": 1}
    assert found['lading_records_total{mode="dry-run",outcome="created"}'] == 5
    assert found['lading_runs_total{mode="import",state="failed"}'] == 1
    assert found["lading_input_bytes_total"] == 3 * found['lading_spool_bytes{kind="files"}'] > 0
    for name in ("lading_run_seconds", "lading_queue_wait_seconds"):
        assert found[f"{name}_count"] == found[f'{name}_bucket{{le="+Inf"}}'] == found[f'{name}_bucket{{le="60"}}'] == 3
    assert (found['lading_part_up{part="catalog"}'], found['lading_part_up{part="worker"}'], found["lading_workers"]) == (1, 0, 0)


def test_what_has_not_happened_is_0(lite: Web) -> None:
    """Before the first batch every figure is there already, so that an alert sees it grow from 0 to 1."""
    found = samples(scraped(lite))
    for name in ('lading_runs_total{mode="import",state="failed"}', 'lading_deliveries{kind="mail",state="failed"}'):
        assert found[name] == 0
    assert found['lading_records_total{mode="import",outcome="errors"}'] == 0
    assert {name.partition("{")[0] for name in found} == known(lite)


def test_a_wait_and_a_take_over_show(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """How long the oldest batch has waited, and how often a lease ran out, is told; a start time to come is no wait."""
    batch_id = int(web.ready())
    batches.schedule(web.catalog, batch_id, Options(), LANE)
    later = int(web.ready())
    batches.schedule(web.catalog, later, Options(start_at=clock.now() + timedelta(days=1)), LANE)
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now + timedelta(seconds=100))
    assert 99 < samples(scraped(web))["lading_oldest_wait_seconds"] < 110
    assert batches.claim(web.catalog, "w", 30) is not None
    assert samples(scraped(web))["lading_oldest_wait_seconds"] == 0
    monkeypatch.setattr(clock, "now", lambda: now + timedelta(seconds=200))
    assert batches.hand_back_expired(web.catalog) == [batch_id]
    found = samples(scraped(web))
    assert found["lading_lease_takeovers_total"] == 1
    assert 90 < found["lading_queue_wait_seconds_sum"] < 110


def test_counters_outlive_batches(web: Web) -> None:
    """What is deleted after its time is its batches' rows and nothing else: every counter and histogram stays as it was."""
    ended(web, Counts(input=10, created=4, updated=3, skipped=1, errors=2))
    ended(web, Counts(input=5, created=5), Mode.DRY_RUN)
    before = samples(scraped(web))
    waiting = int(web.ready())
    batches.schedule(web.catalog, waiting, Options(), LANE)
    web.ready()
    soon = clock.now() + timedelta(seconds=1)
    assert (len(expire_batches(web.catalog, soon)), expire_batches(web.catalog, soon)) == (3, [])
    kept = batches.get(web.catalog, waiting)
    assert kept is not None and kept.state is State.SCHEDULED
    ended(web, Counts(input=1, created=1), claims=waiting)
    after = samples(scraped(web))
    assert after['lading_batches{state="completed"}'] == 1
    changed = {name for name, value in before.items() if after.get(name, 0) != value and ("_total" in name or "_count" in name)}
    more = {'lading_records_total{mode="import",outcome="created"}', 'lading_runs_total{mode="import",state="completed"}'}
    assert changed == more | {"lading_input_bytes_total", "lading_run_seconds_count", "lading_queue_wait_seconds_count"}
    assert all(after[name] == before[name] + 1 for name in changed if name != "lading_input_bytes_total")


def test_only_keys_that_read_everything_see_them(lite: Web) -> None:
    """Figures of everybody's batches are for keys that may read everybody's."""
    assert lite.get("/metrics").status_code == 403
    assert lite.app.test_client().get("/metrics").status_code == 401


def test_the_format_is_prometheus_own(lite: Web) -> None:
    """Each family has its help and type before its samples; counters, and they alone, end in _total; buckets grow; units are base units."""
    ended(lite, Counts(input=1, created=1))
    text = scraped(lite)
    kinds = dict(re.findall(r"^# TYPE (\S+) (counter|gauge|histogram)$", text, re.MULTILINE))
    assert kinds and list(kinds) == re.findall(r"^# HELP (\S+) \S.*\.$", text, re.MULTILINE)
    blocks = re.split(r"^# HELP ", text, flags=re.MULTILINE)[1:]
    for name, block in zip(kinds, blocks, strict=True):
        lines = block.splitlines()
        assert lines[0].startswith(f"{name} ") and lines[1].startswith(f"# TYPE {name} ")
        suffix = "(_bucket|_sum|_count)" if kinds[name] == "histogram" else ""
        assert all(re.match(rf"{name}{suffix}[{{ ]", line) for line in lines[2:])
        assert name.endswith("_total") == (kinds[name] == "counter")
        assert not re.search(r"milli|minutes|kilo|count$", name)
    found = samples(text)
    counts = [value for name, value in found.items() if name.startswith("lading_run_seconds_bucket")]
    assert counts == sorted(counts) and len(counts) == len(metrics.RUN_BOUNDS) + 1


def names_in(expression: str) -> set[str]:
    """Return the figures that an expression is made of."""
    return set(re.findall(r"\blading_[a-z_]+", expression))


def known(web: Web) -> set[str]:
    """Return the names of all samples."""
    ended(web, Counts(input=1, created=1))
    return {name.partition("{")[0] for name in samples(scraped(web))}


def test_alerts_are_of_figures_that_there_are(lite: Web) -> None:
    """Each alert has what Prometheus wants of it, and looks only at figures, states and parts that exist."""
    there = known(lite)
    rules = [rule for group in RULES["groups"] for rule in group["rules"]]
    assert len({rule["alert"] for rule in rules}) == len(rules) >= 5
    for rule in rules:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert re.fullmatch(r"[A-Z][A-Za-z]+", rule["alert"]) and re.fullmatch(r"\d+[smhd]", rule.get("for", "1m"))
        assert names_in(rule["expr"]) <= there, rule["alert"]
        assert set(re.findall(r'state="(\w+)"', rule["expr"])) <= {*State, "failed"}
        assert rule["expr"].count("(") == rule["expr"].count(")")
        assert set(rule["annotations"]) == {"summary", "description"} and rule["labels"]["severity"] in ("page", "ticket")


def test_the_dashboard_shows_every_figure(lite: Web) -> None:
    """The dashboard's panels are of figures that there are, and leave none out; no two panels lie upon one another."""
    there = known(lite)
    shown = {name for panel in DASHBOARD["panels"] for target in panel["targets"] for name in names_in(target["expr"])}
    assert shown <= there
    families = {re.sub(r"_(bucket|sum|count)$", "", name) for name in there}
    assert families == {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
