"""`make demo`: the service with a small database, and one import into it that is checked by an independent count.

With DEMO_EXIT=1 it ends after the import, with exit status 0 only if every record is where it should be.
"""

from __future__ import annotations

import csv
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from dev.servers import free_port
from dev.stack import ROOT, Stopped, only_one, running

EXAMPLES = ROOT / "examples"
TABLES = ("airlines", "airports", "planes", "flights")


def environment(folder: Path, env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the environment with settings that keep everything of the demo in `folder`."""
    ours = {
        "TARGET_URL": f"sqlite:///{folder}/target.db",
        "CATALOG_URL": f"sqlite:///{folder}/catalog.db",
        "SPOOL_URL": f"file:{folder}/spool",
    }
    return {name: value for name, value in env.items() if name.removesuffix("_FILE") not in ours} | ours


def make_target(path: Path) -> None:
    """Create the demo's tables, empty, in a new SQLite file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path)
    database.executescript((EXAMPLES / "target.sql").read_text())
    database.close()


def make_key(env: dict[str, str]) -> str:
    """Make a key that may import and read, as a user would, and return it."""
    command = [sys.executable, "-m", "flask", "key", "create", "--name", "demo", "--permission", "import", "--permission", "read"]
    return subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout.strip()


def make_link(address: str, env: dict[str, str]) -> str:
    """Make an address of the pages that signs in once, and return it."""
    command = [sys.executable, "-m", "flask", "admin", "link"]
    link_env = env | {"PUBLIC_URL": address}
    return subprocess.run(command, cwd=ROOT, env=link_env, check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout.strip()


def run_import(address: str, key: str, folder: Path) -> str:
    """Run the example's four steps in `folder`, which gets results.csv; return what the script said."""
    env = os.environ | {"LADING": address, "KEY": key}
    command = ["bash", "-euo", "pipefail", str(EXAMPLES / "import.sh")]
    done = subprocess.run(command, cwd=folder, env=env, check=False, stdout=subprocess.PIPE, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(f"examples/import.sh ended with exit status {done.returncode}: {done.stdout}")
    return done.stdout


def rows(name: str) -> list[dict[str, str]]:
    """Return the records of one of the example's files."""
    with (EXAMPLES / "data" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def expected_refusals() -> set[tuple[str, int]]:
    """Return (file, line) of the flights that name a plane or an airport which the other files lack: counted without our own code."""
    planes = {row["tailnum"] for row in rows("planes")} | {"NA"}
    airports = {row["faa"] for row in rows("airports")}
    bad = [row["tailnum"] not in planes or not {row["origin"], row["dest"]} <= airports for row in rows("flights")]
    return {("flights.csv", line) for line, is_bad in enumerate(bad, start=2) if is_bad}


def problems(folder: Path, said: str) -> list[str]:
    """Compare status, receipts and tables with the files themselves; return what differs, in words."""
    refused = expected_refusals()
    records = {name: len(rows(name)) for name in TABLES}
    total = sum(records.values())
    status = said.partition("\n")[0]
    counts = dict(re.findall(r"(\w+)=(\d+)", status))
    wanted = {"input": str(total), "success": str(total - len(refused)), "error": str(len(refused)), "skip": "0"}
    found = []
    if not status.startswith("completed ") or any(counts.get(name) != value for name, value in wanted.items()):
        found.append(f"the status is {status!r}, expected completed with {wanted}")
    with (folder / "results.csv").open(newline="", encoding="utf-8") as file:
        receipts = list(csv.DictReader(file))
    if len(receipts) != total:
        found.append(f"{len(receipts)} receipts for {total} records")
    errors = {(r["File"], int(r["LineNumber"])) for r in receipts if r["Severity"] == "Error"}
    if errors != refused:
        found.append(f"refused are {sorted(errors)}, expected {sorted(refused)}")
    database = sqlite3.connect(folder / "target.db")
    for name in TABLES:
        (count,) = database.execute(f"SELECT count(*) FROM {name}").fetchone()
        expected = records[name] - (len(refused) if name == "flights" else 0)
        if count != expected:
            found.append(f"table {name} has {count} rows, expected {expected}")
    if database.execute("PRAGMA foreign_key_check").fetchall():
        found.append("foreign keys point nowhere")
    database.close()
    return found


def show(address: str, key: str, folder: Path) -> bool:
    """Run the import, print what it said, and tell whether all went as it should."""
    said = run_import(address, key, folder)
    print(said)
    differing = problems(folder, said)
    for problem in differing:
        print(f"WRONG: {problem}", file=sys.stderr)
    if not differing:
        print("An independent count of the files and of the tables agrees with every receipt.")
    return not differing


def main(folder: Path = ROOT / "var" / "demo") -> int:
    """Start the service afresh in this folder, import, and stay until asked to stop (or not, if DEMO_EXIT is set)."""
    is_short = os.environ.get("DEMO_EXIT", "") not in ("", "0")
    try:
        with only_one(folder.with_suffix(".lock")):
            shutil.rmtree(folder, ignore_errors=True)
            make_target(folder / "target.db")
            env = environment(folder)
            with running(int(os.environ.get("PORT") or free_port()), folder, env, is_quiet=True) as stack:
                key = make_key(env)
                is_right = show(stack.address, key, folder)
                if is_short:
                    return 0 if is_right else 1
                print(f"\nLading runs at {stack.address}, until Ctrl-C. To import the same again, which changes nothing and says so:")
                print(f"  LADING={stack.address} KEY={key} examples/import.sh")
                print(f"To see it in the browser, an address that signs in once:\n  {make_link(stack.address, stack.env)}", flush=True)
                stack.watch()
    except Stopped:
        print("Stopped.")
        return 0
    except (RuntimeError, subprocess.SubprocessError) as failure:
        print(f"Stopped: {failure}\nMore may stand in {folder / 'log'}.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
