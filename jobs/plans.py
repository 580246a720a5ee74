"""Compiled control files, kept for as long as the tables that they were compiled against stay as they are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from engine import control
from engine.control.generate import generated_schema
from engine.plan import Plan
from engine.tables import Table, Tables
from engine.target import Target
from errors import Refusal, TargetUnavailable
from schemas.control import parse
from spool import Spool

FRESH_SECONDS = 1.0  # a plan that was looked at so lately is used without another look at the target's tables


@dataclass
class _Seen:
    """The target's tables, remembering which of them were asked for."""

    tables: Tables
    asked: dict[tuple[str | None, str], Table] = field(default_factory=dict)

    def names(self) -> Sequence[tuple[str | None, str]]:
        return self.tables.names()

    def get(self, schema: str | None, name: str) -> Table:
        self.asked[schema, name] = table = self.tables.get(schema, name)
        return table


@dataclass
class _Kept:
    plan: Plan
    asked: dict[tuple[str | None, str], Table]
    looked_at: float  # time.monotonic()

    def is_fresh(self, target: Target) -> bool:
        """Tell whether the plan's tables are as they were; the target gives the same object for a table that has not changed."""
        if time.monotonic() - self.looked_at < FRESH_SECONDS:
            return True
        tables = target.tables()
        try:
            is_same = all(tables.get(*key) is table for key, table in self.asked.items())
        except KeyError:
            return False
        self.looked_at = time.monotonic()
        return is_same


class Plans:
    """Compiles stored control files, by digest."""

    def __init__(self, spool: Spool, target: Target) -> None:
        self._spool, self._target = spool, target
        self._kept: dict[str, _Kept] = {}

    def get(self, digest: str) -> Plan:
        """Return the plan of a stored control file.

        Raises DigestUnknown where the spool does not have it, ControlFileInvalid where it no longer fits the target's tables, and
        TargetUnavailable where those cannot be looked at.
        """
        try:
            kept = self._kept.get(digest)
            if kept is None or not kept.is_fresh(self._target):
                self._kept[digest] = kept = self._compiled(digest)
        except self._target.errors as error:
            raise TargetUnavailable(str(error).strip()) from error
        return kept.plan

    def generated(self, name: str) -> Plan | None:
        """Return the plan of the control file that is made from the table of this name; None where there is none, or several."""
        try:
            tables = self._target.tables()
            text = generated_schema(tables, name)
            return control.compile(parse(text.encode()), tables, self._target.dialect)
        except Refusal:
            return None
        except self._target.errors as error:
            raise TargetUnavailable(str(error).strip()) from error

    def _compiled(self, digest: str) -> _Kept:
        with self._spool.open(digest) as file:
            document = parse(file.read())
        seen = _Seen(self._target.tables())
        return _Kept(control.compile(document, seen, self._target.dialect), seen.asked, time.monotonic())
