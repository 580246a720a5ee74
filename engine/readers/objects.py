"""JSON objects as records: members by the names of inputs, values as text, numbers exactly as they stand in the file."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from engine import faults
from engine.chunk import Block, Chunk
from engine.faults import Fault
from engine.plan import Action, EntityPlan
from engine.readers.alike import Lessons, flat, rows_alike
from engine.readers.task import Task, place_names


class Number(str):
    """A number, as it stands in the file."""

    __slots__ = ()


Members = tuple[tuple[str, ...], tuple[Any, ...]]
"""An object: its names and its values, in order. Nothing else in JSON is a tuple here."""

_sound_names: set[tuple[str, ...]] = set()  # of objects whose names were seen to differ, as those of most records do


class _Duplicate(ValueError):
    """An object has one name twice."""


def _members(pairs: list[tuple[str, Any]]) -> Members:
    names, values = zip(*pairs, strict=True) if pairs else ((), ())
    if names not in _sound_names:
        if len(set(names)) < len(names):
            raise _Duplicate(f"the name '{next(name for name in names if names.count(name) > 1)}' stands twice in one object")
        if sum(map(len, names)) <= _SHORT_NAMES:
            if len(_sound_names) >= _MOST_NAMES:
                _sound_names.clear()
            _sound_names.add(names)
    return names, values


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is no JSON value")


DECODER = json.JSONDecoder(object_pairs_hook=_members, parse_float=Number, parse_int=Number, parse_constant=_no_constant)
_SHORT_NAMES, _MOST_NAMES = 4_000, 1_000  # characters of the names of one object, and objects: what is remembered is bounded
_TEXTS = {str, type(None)}
SCALARS = {str, Number, bool, type(None)}
SPACE = " \t\r\n"
TOO_DEEP = "it is nested too deeply"
_ONE_A_LINE = "each record has a line of its own: curl -d drops the line ends, --data-binary keeps them"
KINDS = {type(None): "null", bool: "a truth value", str: "a text", Number: "a number", list: "a list"}


def text_of(value: Any) -> str | None:
    """Return a member's value as text; nested values as compact JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None or type(value) is str:
        return value
    return str(value) if isinstance(value, Number) else _compact(value)


def _compact(value: Any) -> str:
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, tuple):
        return "{" + ",".join(f"{json.dumps(name, ensure_ascii=False)}:{_compact(inner)}" for name, inner in zip(*value, strict=True)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_compact, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _reason(error: ValueError) -> str:
    """Return why a text is no JSON; of the commonest cause more than the decoder says."""
    if isinstance(error, json.JSONDecodeError) and error.msg == "Extra data":
        return f"another value follows it, at character {error.pos + 1} ({_ONE_A_LINE})"
    return str(error)


class Elements:
    """Gathers the records of one chunk as they are read; what they are is a subclass's business."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.clear()

    def clear(self) -> None:
        """Begin a new chunk."""
        self.lines: list[int] = []
        self.wrong: dict[int, list[Fault]] = {}

    def add(self, line: int, text: str) -> None:
        """Add the record that a JSON text holds."""
        try:
            self.add_value(line, DECODER.decode(text), len(text))
        except RecursionError:
            self.add_fault(line, faults.fault(faults.INVALID_JSON_LINE, reason=TOO_DEEP))
        except ValueError as error:
            self.add_fault(line, faults.fault(faults.INVALID_JSON_LINE, reason=_reason(error)))

    def add_fault(self, line: int, fault: Fault) -> None:
        """Add a record that cannot be read."""
        self.wrong[len(self.lines)] = [fault]
        self.lines.append(line)

    def add_value(self, line: int, value: Any, chars: int) -> None:
        """Add a record that was decoded from so many characters."""
        raise NotImplementedError

    def seen(self, text: str) -> None:
        """Be told how the record that was added last is written."""

    def take_alike(self, number: int, text: str, at: int, most: int, room: int) -> tuple[int, int]:
        """Add records that are written as those before: at most so many, no more once they have `room` characters.

        The first one, record `number`, begins at `at`; return how many were added, and where the last one ends.
        """
        return 0, at

    def chunk(self, next_line: int, state: dict[str, Any] | None = None) -> Chunk:
        """Make a chunk of what was gathered; see Task.chunk."""
        return self.task.chunk(self.lines, self.blocks(), self.wrong, next_line, state)

    def blocks(self) -> list[Block]:
        """Return the blocks."""
        raise NotImplementedError

    def cells(self, values: Sequence[Any], chars: int) -> Sequence[Any] | Fault:
        """Return a record's values with nested ones as text, or why there are too many or too long ones; it has so many characters."""
        limits = self.task.limits
        if len(values) > limits.columns:
            return faults.fault(faults.TOO_MANY_COLUMNS, found=len(values), limit=limits.columns)
        if not SCALARS.issuperset(map(type, values)):
            try:
                values = list(map(text_of, values))
            except RecursionError:
                return faults.fault(faults.INVALID_JSON_LINE, reason=TOO_DEEP)
        if chars > limits.field_chars and any(len(text_of(v) or "") > limits.field_chars for v in values):
            return faults.fault(faults.FIELD_TOO_LONG, limit=limits.field_chars)
        return values


class Objects(Elements):
    """Records of one entity and action; consecutive ones with the same members become a block."""

    def __init__(self, task: Task, entity: EntityPlan, action: Action) -> None:
        self._entity, self._action = entity, action
        self._layouts: dict[tuple[str, ...], dict[str, int] | Fault] = {}
        self._warned: set[str] = set()
        self._lessons = Lessons()
        self._seen: tuple[str, ...] = ()  # the names of the object that was decoded last
        self._alike: tuple[re.Pattern[str], tuple[str, ...]] | None = None  # how objects with these names are written
        self._longest = min(task.limits.field_chars, task.limits.line_bytes)  # characters of an object that no limit could refuse
        super().__init__(task)

    def clear(self) -> None:
        """Begin a new chunk."""
        super().clear()
        self._parts: list[tuple[tuple[str, ...], list[Sequence[Any]], list[int]]] = []
        self._names: tuple[str, ...] | None = None  # of the last part, and
        self._rows: list[Sequence[Any]] = []
        self._positions: list[int] = []

    def add(self, line: int, text: str) -> None:
        """Add the record that a JSON text holds."""
        if self._alike is not None and len(text) <= self._longest and text[0] == "{":
            pattern, names = self._alike
            if (found := pattern.match(text)) is not None and not text[found.end() :].strip(SPACE):
                self._keep(line, names, found.groups())
                return
        super().add(line, text)
        self.seen(text.strip(SPACE))

    def add_value(self, line: int, value: Any, chars: int) -> None:
        """Add a record that was decoded from so many characters."""
        if not isinstance(value, tuple):
            self.add_fault(line, faults.fault(faults.NOT_AN_OBJECT, found=KINDS[type(value)]))
            return
        names, values = value
        cells = self.cells(values, chars)
        layout = cells if isinstance(cells, Fault) else self._layout(names)
        if isinstance(layout, Fault):
            self.add_fault(line, layout)
        else:
            self._keep(line, names, cells)

    def _keep(self, line: int, names: tuple[str, ...], cells: Sequence[Any]) -> None:
        if names != self._names:
            self._begin(names)
        self._rows.append(cells)
        self._positions.append(len(self.lines))
        self.lines.append(line)

    def _begin(self, names: tuple[str, ...]) -> None:
        """Begin a block of objects with these names."""
        self._names, self._rows, self._positions = names, [], []
        self._parts.append((names, self._rows, self._positions))

    def seen(self, text: str) -> None:
        """Learn from an object how others with its names are written, once there have been so many that it is worth while."""
        if self._names is None or len(self.lines) - 1 in self.wrong or self._names != self._seen:
            self._lessons.begin()
            self._seen = self._names or ()
        elif self._lessons.is_due():
            pattern = flat(text, [text_of(value) for value in self._rows[-1]])
            self._alike = self._alike if pattern is None else (pattern, self._seen)

    def take_alike(self, number: int, text: str, at: int, most: int, room: int) -> tuple[int, int]:
        """Add objects that are written as the last ones; see Elements.take_alike."""
        if self._alike is None:
            return 0, at
        pattern, names = self._alike
        rows, end = rows_alike(pattern, text, at, most, room, self._longest)
        if rows and names != self._names:
            self._begin(names)
        self._rows.extend(rows)
        self._positions.extend(range(len(self.lines), len(self.lines) + len(rows)))
        self.lines.extend(range(number, number + len(rows)))
        return len(rows), end

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
            self.task.warnings.append(f"the control file has no input for: {', '.join(new)}")
        return places

    def blocks(self) -> list[Block]:
        """Return the blocks; neighbours that have the same inputs in another order are one."""
        made: list[Block] = []
        for names, rows, positions in self._parts:
            places = self._layout(names)
            assert not isinstance(places, Fault)  # noqa: S101  only rows that were laid out are kept
            columns = list(zip(*rows, strict=True))
            chosen = [texts(columns[index]) for index in places.values()]
            if made and made[-1].inputs == tuple(places):
                last = made[-1]
                last.columns = [[*before, *more] for before, more in zip(last.columns, chosen, strict=True)]
                last.positions = [*last.positions, *positions]
            else:
                made.append(Block(self._entity, self._action, tuple(places), chosen, positions))
        return made


def texts(column: Sequence[Any]) -> Sequence[str | None]:
    """Turn a column of values into text; one that is text throughout stays as it is."""
    kinds = set(map(type, column))
    if kinds <= _TEXTS:
        return column
    if kinds == {Number}:
        return list(map(str, column))
    return [value if value is None or type(value) is str else text_of(value) for value in column]
