"""The page docs/benchmarks.md: its generated part, from what each suite measured last."""

from __future__ import annotations

import json
import os
import platform
import re
import sqlite3
import subprocess
from dataclasses import asdict
from pathlib import Path

import psycopg

import clock
from bench import plots
from bench.figures import HEADER, Figure, table
from bench.measure import ROOT
from bench.suites import Options

PAGE = ROOT / "docs" / "benchmarks.md"
PICTURES = ROOT / "docs" / "pictures"
KEPT = ROOT / "var" / "bench" / "figures.json"
START, END = "<!-- written by `make bench` -->", "<!-- end of what `make bench` writes -->"


def keep(suite: str, options: Options, version: str, figures: list[Figure], text: str = "") -> None:
    """Remember what a suite measured."""
    kept = json.loads(KEPT.read_text()) if KEPT.exists() else {}
    about = {"rows": options.rows, "rounds": options.rounds, "at": f"{clock.now():%Y-%m-%d %H:%M}", "postgresql": version}
    kept[suite] = about | {"figures": [asdict(figure) for figure in figures], "text": text}
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    KEPT.write_text(json.dumps(kept, indent=1))


def write(suites: list[str], page: Path = PAGE, kept: Path = KEPT, pictures: Path = PICTURES) -> None:
    """Write the generated part of the page from what is remembered, and its pictures; what no suite has measured yet is left out."""
    found = json.loads(kept.read_text())
    measured = [found[suite] for suite in suites if suite in found]
    figures = [Figure(**figure) for one in measured for figure in one["figures"]]
    parts = [machine(measured), table(HEADER, [figure.cells() for figure in figures]), *(one["text"] for one in measured if one["text"])]
    page.write_text(replaced(page.read_text(), "\n".join(parts)))
    plots.write(page.read_text(), pictures)


def replaced(page: str, part: str) -> str:
    """Put the generated part into its place in the page.

    >>> replaced(f"before {START} old {END} after", "new") == f"before {START}\\nnew\\n{END} after"
    True
    """
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{part.strip()}\n{END}{after}"


def machine(measured: list[dict]) -> str:
    """Say on what was measured, and when."""
    times = sorted(one["at"] for one in measured)
    rows = ", ".join(sorted({f"{one['rows']:,}" for one in measured}))
    rounds = ", ".join(sorted({str(one["rounds"]) for one in measured}))
    servers = ", ".join(sorted({one["postgresql"] for one in measured if one["postgresql"]}))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    curl = subprocess.run(["curl", "--version"], check=True, stdout=subprocess.PIPE, text=True).stdout.split()[1]
    return (
        f"Measured {times[0][:16]} to {times[-1][:16]} UTC on {os.cpu_count()} cores ({_processor()}), {memory:.0f} GiB of memory, "
        f"Linux {platform.release()}; {rows} rows, medians of {rounds} rounds.\n"
        f"Python {platform.python_version()}, PostgreSQL {servers or 'not measured'} with fsync on, SQLite {sqlite3.sqlite_version}, "
        f"psycopg {psycopg.__version__}, curl {curl}.\n"
    )


def _processor() -> str:
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1].strip() if found else platform.machine()
