"""The shapes of an entity collection's records, compiled as a control file would be that says the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engine import control, faults
from engine.faults import Fault
from engine.readers.collection import BY_PROPERTIES, CODE, Compiled, Form, Shape
from engine.tables import Tables, fold, matches
from errors import ControlFileInvalid, Problem

_REASON_CHARS = 1_000


def compile_shape(shape: Shape, tables: Tables, dialect: str) -> Compiled | Fault:
    """Compile a shape against the target's tables; the fault of its records where it does not fit them."""
    document = _Written(shape, tables)
    try:
        plan = control.compile(document, tables, dialect)
    except ControlFileInvalid as invalid:
        reason = "; ".join(map(str, invalid.problems))[:_REASON_CHARS]
        return faults.fault(faults.RECORD_UNFIT, invalid.problems[0].path, reason=reason)
    return Compiled(plan.entities[fold(shape.entity)], tuple(document.inputs))


@dataclass
class _Written:
    """The control file that says what a shape says; see engine.control.Document."""

    shape: Shape
    tables: Tables
    inputs: list[str] = field(default_factory=list)
    problems: tuple[Problem, ...] = ()  # of form: what we write has none
    faulty: frozenset[tuple[str | int, ...]] = frozenset()

    def __post_init__(self) -> None:
        mappings = [] if self.shape.identity is None else [{"id": self._identity(self.shape.identity)}]
        forms = dict(zip(self.shape.places, self.shape.forms, strict=True))
        mappings += [{name: self._options(name, forms.get(place, Form()))} for place, name in enumerate(self.shape.names)]
        self.data: dict[str, Any] = {"entities": [{"entity": self.shape.entity, "input": self.inputs, "mappings": mappings}]}

    def problem(self, path: Sequence[str | int], message: str, allowed: Sequence[str] = ()) -> Problem:
        """Return a problem with a property, or else with the entity."""
        name = str(path[4]) if len(path) > 4 else "entityType"
        return Problem(message, "Id" if name == "id" else name, None, tuple(allowed))

    def _identity(self, form: Form) -> dict[str, Any]:
        if form.converter in (CODE, BY_PROPERTIES):
            return self._options("Id", form)
        # A bare Id is the key by which the database itself knows the row. Where that has several columns, none is meant, which is said.
        found = matches(self.tables, self.shape.entity)
        table = self.tables.get(*found[0]) if len(found) == 1 else None
        key = table.primary_key if table and len(table.primary_key) == 1 else ("Id",)
        return {"converter": {"type": BY_PROPERTIES, "properties": {f"{self.shape.entity}->{key[0]}": self._input("Id")}}}

    def _options(self, name: str, form: Form) -> dict[str, Any]:
        """Return the options of a property's mapping."""
        if form.labels:
            properties = {label: self._input(label) for label in form.labels}
            return {"converter": {"type": BY_PROPERTIES, "properties": properties}}
        if not form.converter:
            return {"input": self._input(name)}
        return {"converter": {"type": form.converter, "input": self._input(name), **dict(form.options)}}

    def _input(self, name: str) -> str:
        """Return the name of an input of its own, by which messages call the value."""
        unlike = name if name not in self.inputs else f"{name} ({len(self.inputs)})"
        self.inputs.append(unlike)
        return unlike
