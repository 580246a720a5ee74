"""JSON objects as records: members by the names of inputs, values as text, numbers exactly as they stand in the file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from engine import faults
from engine.chunk import Block
from engine.faults import Fault
from engine.plan import Action, EntityPlan
from engine.readers.task import Task, place_names


class _Number(str):
    """A number, as it stands in the file."""

    __slots__ = ()


class _Members(list[Any]):
    """An object's members, in order."""

    __slots__ = ()


class _Duplicate(ValueError):
    """An object has one name twice."""


def _members(pairs: list[tuple[str, Any]]) -> _Members:
    if len(dict(pairs)) < len(pairs):
        names = [name for name, _ in pairs]
        raise _Duplicate(f"the name '{next(name for name in names if names.count(name) > 1)}' stands twice in one object")
    return _Members(pairs)


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON value")


DECODER = json.JSONDecoder(object_pairs_hook=_members, parse_float=_Number, parse_int=_Number, parse_constant=_no_constant)
_SCALARS = {str, _Number, bool, type(None)}
_TOO_DEEP = "it is nested too deeply"
_KINDS = {type(None): "null", bool: "a truth value", str: "a text", _Number: "a number", list: "a list"}


def _text(value: Any) -> str | None:
    """Return a member's value as text; nested values as compact JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or type(value) is str:
        return value
    return str(value) if isinstance(value, _Number) else _compact(value)


def _compact(value: Any) -> str:
    if isinstance(value, _Number):
        return str(value)
    if isinstance(value, _Members):
        return "{" + ",".join(f"{json.dumps(name, ensure_ascii=False)}:{_compact(inner)}" for name, inner in value) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_compact, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


class Objects:
    """Gathers the records of one chunk; consecutive ones with the same members become a block."""

    def __init__(self, task: Task, entity: EntityPlan, action: Action) -> None:
        self._task, self._entity, self._action = task, entity, action
        self._layouts: dict[tuple[str, ...], dict[str, int] | Fault] = {}
        self._warned: set[str] = set()
        self.clear()

    def clear(self) -> None:
        """Begin a new chunk."""
        self.lines: list[int] = []
        self.wrong: dict[int, list[Fault]] = {}
        self._parts: list[tuple[tuple[str, ...], list[Sequence[Any]], list[int]]] = []
        self._names: tuple[str, ...] | None = None

    def add(self, line: int, text: str) -> None:
        """Add the record that a JSON text holds."""
        try:
            self.add_value(line, DECODER.decode(text), len(text))
        except RecursionError:
            self.add_fault(line, faults.fault(faults.INVALID_JSON_LINE, reason=_TOO_DEEP))
        except ValueError as error:
            self.add_fault(line, faults.fault(faults.INVALID_JSON_LINE, reason=str(error)))

    def add_fault(self, line: int, fault: Fault) -> None:
        """Add a record that cannot be read."""
        self.wrong[len(self.lines)] = [fault]
        self.lines.append(line)

    def add_value(self, line: int, value: Any, chars: int) -> None:
        """Add a record that was decoded from so many characters."""
        if not isinstance(value, _Members):
            self.add_fault(line, faults.fault(faults.NOT_AN_OBJECT, found=_KINDS[type(value)]))
            return
        names, values = zip(*value, strict=True) if value else ((), ())
        if not _SCALARS.issuperset(map(type, values)):
            try:
                values = tuple(map(_text, values))
            except RecursionError:
                self.add_fault(line, faults.fault(faults.INVALID_JSON_LINE, reason=_TOO_DEEP))
                return
        if len(names) > self._task.limits.columns:
            self.add_fault(line, faults.fault(faults.TOO_MANY_COLUMNS, found=len(names), limit=self._task.limits.columns))
            return
        limit = self._task.limits.field_chars
        if chars > limit and any(len(_text(v) or "") > limit for v in values):
            self.add_fault(line, faults.fault(faults.FIELD_TOO_LONG, limit=limit))
            return
        if names != self._names:
            layout = self._layout(names)
            if isinstance(layout, Fault):
                self.add_fault(line, layout)
                return
            self._names = names
            self._parts.append((names, [], []))
        self._parts[-1][1].append(values)
        self._parts[-1][2].append(len(self.lines))
        self.lines.append(line)

    def _layout(self, names: tuple[str, ...]) -> dict[str, int] | Fault:
        found = self._layouts.get(names)
        if found is None:
            if len(self._layouts) > 1_000:
                self._layouts.clear()
            found = self._layouts[names] = self._place(names)
        return found

    def _place(self, names: tuple[str, ...]) -> dict[str, int] | Fault:
        places = place_names(names, self._entity.inputs)
        extra = [name for index, name in enumerate(names) if index not in places.values()]
        alike = next((name for name in extra if name.casefold() in {n.casefold() for n in places}), None)
        if alike is not None:
            return faults.fault(faults.INVALID_JSON_LINE, reason=f"the name '{alike}' stands twice, but for its case")
        new = [name for name in extra if name not in self._warned and len(self._warned) < 100]
        if new:
            self._warned.update(new)
            self._task.warnings.append(f"the control file has no input for: {', '.join(new)}")
        return places

    def blocks(self) -> list[Block]:
        """Return the blocks; neighbours that have the same inputs in another order are one."""
        made: list[Block] = []
        for names, rows, positions in self._parts:
            places = self._layout(names)
            assert not isinstance(places, Fault)  # noqa: S101  only rows that were laid out are kept
            columns = list(zip(*rows, strict=True))
            chosen = [_texts(columns[index]) for index in places.values()]
            if made and made[-1].inputs == tuple(places):
                last = made[-1]
                last.columns = [[*before, *more] for before, more in zip(last.columns, chosen, strict=True)]
                last.positions = [*last.positions, *positions]
            else:
                made.append(Block(self._entity, self._action, tuple(places), chosen, positions))
        return made


def _texts(column: Sequence[Any]) -> Sequence[str | None]:
    """Turn a column of values into text; one that is text throughout stays as it is."""
    kinds = set(map(type, column))
    if kinds == {str}:
        return column
    if kinds == {_Number}:
        return list(map(str, column))
    return [_text(value) for value in column]
