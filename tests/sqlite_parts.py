"""Helpers for tests of imports into SQLite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.engine_parts import Imported, run_import


def control(table: str, columns: str, key: str | None = None, action: str = "Merge") -> str:
    """Write a control file for one table whose inputs are its columns; without a key records have none but the table's own."""
    identity = "".join(f', "Thing->{k}": {k}' for k in key.split())[2:] if key else ""
    lines = f"  - id: {{converter: {{type: ReferenceLookup, properties: {{{identity}}}}}}}\n" if key else ""
    lines += "".join(f"  - {c}: \n" for c in columns.split())
    return (
        f"entities:\n- entity: Thing\n  table: {table}\n  input: [{', '.join(columns.split())}]\n  mappings:\n{lines}"
        f"files:\n  x.csv: {{entity: Thing, action: {action}}}\n"
    )


def load(url: str, scratch: Path, text: str, rows: str, **options: Any) -> Imported:
    """Import rows, given with their header."""
    return run_import(url, text, {"x.csv": rows}, scratch, **options)


def ids(done: Imported) -> list[str]:
    """Return the receipts' ids."""
    return [r["EntityId"] for r in done.results]
