"""What only a table's CREATE statement tells on SQLite: collations of its columns, AUTOINCREMENT, and which foreign keys are deferred."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field

from engine.tables import quote

_TOKENS = re.compile(
    r"""--[^\n]* | /\*.*?(?:\*/|$) | \s+            # what means nothing
    | '(?:[^']|'')*' | "(?:[^"]|"")*" | `(?:[^`]|``)*` | \[[^\]]*\]   # literals and quoted names
    | \w+ | .""",
    re.VERBOSE | re.DOTALL,
)
UNKNOWN_COLLATION = "?"


@dataclass(frozen=True, slots=True)
class Declaration:
    """What a CREATE TABLE statement says."""

    collations: dict[str, str] = field(default_factory=dict)  # of the columns that have one other than BINARY
    is_autoincrement: bool = False
    deferred: tuple[bool, ...] = ()  # one entry a foreign key, in the order of their declaration; () where none is deferred


def declaration_of(name: str, sql: str) -> Declaration:
    """Read a CREATE TABLE statement; it may be empty."""
    words = {token.lower() for token in _tokens(sql)}
    deferred = tuple(_deferred(sql)) if "deferred" in words else ()
    if not words & {"collate", "autoincrement"}:
        return Declaration(deferred=deferred)
    collations, is_autoincrement = _rehearse(name, sql)
    return Declaration(collations, is_autoincrement, deferred)


def _rehearse(name: str, sql: str) -> tuple[dict[str, str], bool]:
    """Carry the statement out in an empty database in memory, and see what came of it: SQLite reads its own language best.

    Where that fails (a function or collation that only the user's program knows), the collations are unknown, and so are taken as loose.
    """
    with closing(sqlite3.connect(":memory:")) as scratch:
        try:
            scratch.execute(sql)
            columns = [n for (n,) in scratch.execute("SELECT name FROM pragma_table_info(?)", (name,))]
            (is_autoincrement,) = scratch.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_sequence'").fetchone()
            scratch.execute(f"CREATE INDEX all_of_them ON {quote(name)} ({', '.join(map(quote, columns))})")
            found = scratch.execute("SELECT name, coll FROM pragma_index_xinfo('all_of_them') WHERE key").fetchall()
        except sqlite3.Error:
            return _AllUnknown(), "autoincrement" in {token.lower() for token in _tokens(sql)}
    return {n: coll for n, coll in found if coll.upper() != "BINARY"}, bool(is_autoincrement)


class _AllUnknown(dict[str, str]):
    def get(self, key: str, default: str = "") -> str:  # type: ignore[override]
        return UNKNOWN_COLLATION


def _tokens(sql: str) -> list[str]:
    """Cut SQL into words, quoted names, literals and signs.

    >>> _tokens("a /* b */ REFERENCES [c d](e) -- f")
    ['a', 'REFERENCES', '[c d]', '(', 'e', ')']
    """
    return [t for t in _TOKENS.findall(sql) if not (t.isspace() or t.startswith(("--", "/*")))]


def _deferred(sql: str) -> list[bool]:
    """Tell for each REFERENCES clause whether it waits for the commit.

    >>> _deferred("a REFERENCES p DEFERRABLE INITIALLY DEFERRED, b REFERENCES p, c REFERENCES p NOT DEFERRABLE INITIALLY DEFERRED")
    [True, False, False]
    """
    found: list[bool] = []
    recent: list[str] = []
    for token in _tokens(sql):
        word = token.upper()
        recent = [*recent[-3:], word]
        if word == "REFERENCES":
            found.append(False)
        elif recent[-3:] == ["DEFERRABLE", "INITIALLY", "DEFERRED"] and found and recent[0] != "NOT":
            found[-1] = True
    return found
