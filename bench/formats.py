"""The same rows as CSV, as JSON Lines, and as an entity collection."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench import data, load_sqlite
from bench.databases import Postgres
from bench.figures import Figure
from bench.load_postgresql import Items
from bench.measure import Command, in_turns, median
from bench.site import Site, ours
from bench.suites import Options, workplace

CSV = data.CONTROL.replace("ACTION", "Merge")
LINES = CSV.replace("items.csv", "items.jsonl")
COLLECTION = "files:\n  records.json: {read: collection}\n"
COLLECTED = 100_000  # records of the collection


def typed(row: data.Row) -> dict[str, Any]:
    """Return a clean row as a program would write it in JSON: numbers and truth values as such."""
    values: dict[str, Any] = dict(zip(data.INPUTS, row, strict=True))
    return values | {"sequence": int(row[2]), "price": float(row[3]), "is_active": row[5] == "true"}


def record(row: data.Row) -> dict[str, Any]:
    """Return a clean row as a record of a collection, its key and its category sought by their codes."""
    values = typed(row)
    category = {"converter": "ReferenceLookup", "code": values.pop("category_code")}
    identity = {"converter": "ReferenceLookup", "code": values["code"]}
    return {"entityType": "Item", "action": "Merge", "Id": identity, "properties": values | {"category_id": category}}


def lines(path: Path, rows: Iterator[data.Row]) -> Path:
    """Write rows as JSON Lines."""
    with path.open("w", encoding="utf-8") as file:
        file.writelines(f"{json.dumps(typed(row), ensure_ascii=False)}\n" for row in rows)
    return path


def collection(path: Path, rows: Iterator[data.Row]) -> Path:
    """Write rows as an entity collection."""
    with path.open("w", encoding="utf-8") as file:
        for number, row in enumerate(rows):
            file.write(("," if number else "[") + "\n" + json.dumps(record(row), ensure_ascii=False))
        file.write("\n]\n")
    return path


def _measured(where: str, site: Site, fresh: Callable[[], None], folder: Path, options: Options) -> list[Figure]:
    count = min(options.rows, COLLECTED)
    files = data.generated(options.rows, ["clean"]), data.generated(count, ["clean"])

    def command(name: str, control: str, file: str, path: Path, created: int) -> Command:
        return ours(name, site, control, {file: path}, fresh, {"created": created, "errors": 0})

    samples = in_turns(
        [
            command("csv", CSV, "items.csv", files[0]["clean"], options.rows),
            command("lines", LINES, "items.jsonl", lines(folder / "items.jsonl", data.rows(options.rows)), options.rows),
            command("less csv", CSV, "items.csv", files[1]["clean"], count),
            command("collection", COLLECTION, "records.json", collection(folder / "records.json", data.rows(count)), count),
        ],
        options.rounds,
    )
    csv, less = median(samples["csv"]), median(samples["less csv"])
    return [
        Figure(f"{where}: merge of JSON Lines", f"the same rows as CSV ({csv:.2f} s)", median(samples["lines"]) / csv, 1.5),
        Figure(
            f"{where}: an entity collection of {count:,}", f"the same rows as CSV ({less:.2f} s)", median(samples["collection"]) / less, 2.0
        ),
    ]


def sqlite(options: Options) -> list[Figure]:
    """Measure merges of new, clean rows into SQLite."""
    with workplace() as folder:
        items = load_sqlite.Items(folder)
        return _measured("SQLite", items.site, items.fresh, folder, options)


def postgresql(server: Postgres, options: Options) -> list[Figure]:
    """Measure merges of new, clean rows into PostgreSQL."""
    with workplace() as folder:
        items = Items(server, options, folder, [])
        return _measured("PostgreSQL", items.site, items.fresh("empty"), folder, options)
