"""From what PostgreSQL says of a refused row to a fault that says which column, which value, and what would have been right."""

from __future__ import annotations

from dataclasses import dataclass

from engine import faults as f
from engine.apply import forbidden
from engine.faults import Fault, fault
from engine.lookup import said
from engine.ops import Ops, shown
from engine.target.postgresql import rowloop


@dataclass(frozen=True, slots=True)
class Refused:
    """The diagnostics of one refused row."""

    state: str
    message: str
    constraint: str = ""
    column: str = ""
    detail: str = ""


def _value(ops: Ops, op: int, column: str) -> str:
    """Return what the record says for a column, as receipts may show it."""
    for written in ops.written:
        if written.column.name == column:
            return "***" if written.is_masked else str(written.values[op] if written.values[op] is not None else "")
    return ""


def _values(ops: Ops, op: int, columns: tuple[str, ...]) -> tuple[str, str]:
    return ", ".join(columns), ", ".join(_value(ops, op, c) for c in columns)


def fault_of(ops: Ops, op: int, refused: Refused) -> Fault:
    """Return the fault of a row that the database refused."""
    table = ops.entity.table
    match refused.state:
        case "23502":
            return fault(f.NOT_NULL, refused.column, _value(ops, op, refused.column))
        case "23505":
            unique = next((u for u in table.uniques if u.name == refused.constraint), None)
            column, value = _values(ops, op, unique.columns if unique else ())
            return fault(f.UNIQUE_VIOLATED, column or "value", value, table=table.name, constraint=refused.constraint)
        case "23503":
            return _foreign_key(ops, op, refused)
        case "23514":
            column = refused.column
            return fault(f.CHECK_VIOLATED, column, _value(ops, op, column), table=table.name, constraint=refused.constraint, rule="")
        case "23P01":
            return fault(f.EXCLUSION_VIOLATED, constraint=refused.constraint)
        case "42501":
            return fault(f.NOT_ALLOWED, reason=shown(ops.entity, refused.message))
    return fault(f.DATABASE_REFUSED, reason=shown(ops.entity, refused.message))


def _foreign_key(ops: Ops, op: int, refused: Refused) -> Fault:
    key = next((k for k in ops.entity.table.foreign_keys if k.name == refused.constraint), None)
    if key is None or "still referenced" in refused.detail or "is still referenced" in refused.message:
        # The row itself is referred to: name it by its identity.
        column = ", ".join(p.column.name for p in ops.entity.identity.parts) if ops.entity.identity else ""
        value = "***" if ops.entity.is_identity_masked else ", ".join(str(part[op]) for part in ops.keys)
        return fault(f.FOREIGN_KEY_VIOLATED, column, value, reason="other rows still refer to", constraint=refused.constraint)
    column, value = _values(ops, op, key.columns)
    return fault(f.FOREIGN_KEY_VIOLATED, column, value, reason=f"does not exist in {key.table}", constraint=refused.constraint)


def fault_of_outcome(ops: Ops, op: int, outcome: str) -> Fault:
    """Return the fault behind an outcome of the row loop other than a refusal."""
    identity = ops.entity.identity
    if outcome == rowloop.NOT_WRITTEN or identity is None:
        return fault(f.NOT_WRITTEN)
    if outcome in (rowloop.FORBIDDEN_FOUND, rowloop.FORBIDDEN_ABSENT, rowloop.VANISHED):
        return forbidden(ops, op, outcome == rowloop.FORBIDDEN_FOUND)
    if outcome == rowloop.AMBIGUOUS:
        return said(f.LOOKUP_AMBIGUOUS, identity, ops.keys, op, ops.entity.is_identity_masked)
    late = ops.late[int(outcome[1:]) - 1]
    is_masked = ops.written[late.written[0]].is_masked
    if outcome[0] == rowloop.LATE_AMBIGUOUS:
        return said(f.LOOKUP_AMBIGUOUS, late.lookup, late.keys, op, is_masked)
    if outcome[0] == rowloop.LATE_SKIPPED:
        return said(f.SKIPPED_MISSING, late.lookup, late.keys, op, is_masked)
    return said(f.REFERENCE_NOT_FOUND, late.lookup, late.keys, op, is_masked, nearest="")


def of_constraint(refused: Refused) -> Fault:
    """Return what to say of a constraint that failed at the end, when no row can be told to be at fault."""
    return fault(f.DEFERRED_VIOLATED, constraint=refused.constraint, reason=refused.message)
