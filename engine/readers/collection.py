"""Entity collections: JSON records that say themselves what they are, what is to be done with them, and how references are meant.

The records are compiled by their *shape*, what they have in common but for their values: entity, action, the names of their properties, and
the converters with what those seek by. The values are columns, as in any other file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from json.encoder import encode_basestring  # the C function behind ensure_ascii=False
from typing import Any, NamedTuple

from engine import faults
from engine.chunk import Block, Chunk
from engine.faults import Fault
from engine.plan import Action, EntityPlan
from engine.readers.alike import Alike, Lessons, alike, rows_alike
from engine.readers.objects import KINDS, Elements, Members, text_of, texts
from engine.readers.task import ACTIONS, NUMBER, Task
from engine.tables import fold

CODE, BY_PROPERTIES = "CodeReferenceLookup", "ReferenceLookup"
MAX_SHAPES = 1_000  # known at a time, as are their parts
_TOLD_CHARS = 1_000  # of what a record is called
_MEMBERS = ("entityType", "action", "userObjectId", "groupOrder", "Id", "properties")


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """How a value is given, its literals left out. Forms are remembered, and told apart by which object they are: that is quickest."""

    converter: str = ""  # "": the value stands as it is
    options: tuple[tuple[str, str], ...] = ()
    labels: tuple[str, ...] = ()  # of a ReferenceLookup: what each of its literals is sought in


class Shape(NamedTuple):
    """What tells how a record is to be read: records of one shape differ in their values alone."""

    entity: str
    identity: Form | None  # None: the record says none
    names: tuple[str, ...]  # of its properties
    forms: tuple[Form, ...]  # of those that are given by a converter; the others stand as they are
    places: tuple[int, ...]  # of those among the names


class Compiled(NamedTuple):
    """A shape, compiled: its entity, and the input that each of its literals is for."""

    entity: EntityPlan
    inputs: tuple[str, ...]


Compile = Callable[[Shape], Compiled | Fault]


class _Unfit(ValueError):
    """A record is not as records of a collection are."""


@dataclass(slots=True)
class _Layout:
    entity: EntityPlan
    action: Action
    inputs: tuple[str, ...]
    said: str  # the entity's name, as the records say it


class Collection(Elements):
    """Gathers the records of a collection; consecutive ones of one shape and action become a block."""

    def __init__(self, task: Task, compile_shape: Compile) -> None:
        self._compile = compile_shape
        self._layouts: dict[tuple[Shape, str], _Layout | Fault] = {}
        self._members: dict[tuple[str, ...], tuple[int, ...]] = {}
        self._forms = _Forms()
        self._alike: Alike | None = None  # how the records of the last layout are written
        self._last: _Layout | None = None
        self._lessons = Lessons()
        super().__init__(task)

    def clear(self) -> None:
        """Begin a new chunk."""
        super().clear()
        self._told: list[str] = []
        self._groups: list[str | None] = []
        self._parts: list[tuple[_Layout, list[Sequence[Any]], list[int]]] = []

    def chunk(self, next_line: int, state: dict[str, Any] | None = None) -> Chunk:
        """Make a chunk of what was gathered, with what its records are called."""
        chunk = self.task.chunk(self.lines, self.blocks(), self.wrong, next_line, state, self._groups if self.task.is_ordered else None)
        chunk.told = self._told
        return chunk

    def add_fault(self, line: int, fault: Fault) -> None:
        """Add a record that cannot be read."""
        self._refuse(line, fault, "", None)

    def _refuse(self, line: int, fault: Fault, told: str, group: str | None) -> None:
        super().add_fault(line, fault)
        self._told.append(told)
        self._groups.append(group)

    def add_value(self, line: int, value: Any, chars: int) -> None:
        """Add a record that was decoded from so many characters."""
        if not isinstance(value, tuple):
            self.add_fault(line, faults.fault(faults.NOT_AN_OBJECT, found=KINDS[type(value)]))
            return
        names, values = value
        try:
            places = self._members.get(names) or self._placed(names)
        except _Unfit as unfit:
            self.add_fault(line, faults.fault(faults.RECORD_UNFIT, reason=str(unfit)))
            return
        values = (*values, None)  # for the members that the record does not have
        entity, action, user_id, group, identity, properties = [values[place] for place in places]
        told = _told(entity, user_id)
        group = group.strip() if self.task.is_ordered and isinstance(group, str) and NUMBER.fullmatch(group.strip()) else None
        try:
            shape, literals = self._taken_apart(entity, identity, properties)
        except _Unfit as unfit:
            self._refuse(line, faults.fault(faults.RECORD_UNFIT, reason=str(unfit)), told, group)
            return
        layout = self._layout(shape, action)
        if isinstance(layout, Fault):
            self._refuse(line, layout, told, group)
            return
        cells = self.cells(literals, chars)
        if self.task.is_ordered and group is None and not isinstance(cells, Fault):
            cells = faults.fault(faults.GROUP_ORDER, "groupOrder", found=str(values[places[3]] or "")[:80])
        if isinstance(cells, Fault):
            self._refuse(line, cells, told, group)
            return
        if not self._parts or self._parts[-1][0] is not layout:
            self._parts.append((layout, [], []))
        self._parts[-1][1].append(cells)
        self._parts[-1][2].append(len(self.lines))
        self.lines.append(line)
        self._told.append(told)
        self._groups.append(group)
        if layout is not self._last:
            self._last, self._alike = layout, None
            self._lessons.begin()

    def seen(self, text: str) -> None:
        """Learn from a record how others of its layout are written, once there have been so many that it is worth while."""
        if len(self.lines) - 1 not in self.wrong and self._lessons.is_due():
            self._alike = alike(text, [text_of(value) for value in self._parts[-1][1][-1]]) or self._alike

    def take_alike(self, number: int, text: str, at: int, most: int, room: int) -> tuple[int, int]:
        """Add records that are written as the last ones; see Elements.take_alike."""
        layout, known = self._last, self._alike
        if known is None or layout is None:
            return 0, at
        longest = min(self.task.limits.field_chars, self.task.limits.line_bytes)
        rows, end = rows_alike(known.pattern, text, at, most, room, longest, partial(self._is_sound, known))
        if rows:
            if not self._parts or self._parts[-1][0] is not layout:
                self._parts.append((layout, [], []))
            self._parts[-1][1].extend(map(known.literals, rows))
            self._parts[-1][2].extend(range(len(self.lines), len(self.lines) + len(rows)))
            self.lines.extend(range(number, number + len(rows)))
            self._groups.extend([None] * len(rows) if known.group is None else [row[known.group] for row in rows])
            start, place = _told(layout.said, None), known.user_id
            ids = [None if place is None else row[place] for row in rows]
            # As it stands without an escape, a text is what it would be written as.
            self._told.extend([start if user_id is None else f'{start}, "userObjectId": "{user_id}"' for user_id in ids])
        return len(rows), end

    def _is_sound(self, known: Alike, row: Sequence[str | None]) -> bool:
        """Tell whether a record can be called what it says, and is in a group where it must be."""
        if known.user_id is not None and len(row[known.user_id] or "") > _TOLD_CHARS:
            return False
        return not self.task.is_ordered or (known.group is not None and NUMBER.fullmatch(row[known.group] or "") is not None)

    def _placed(self, names: tuple[str, ...]) -> tuple[int, ...]:
        """Return where a record's members are among its values; -1 for those that it does not have."""
        folded = list(map(fold, names))
        known = list(map(fold, _MEMBERS))
        wrong = next((n for n, f in zip(names, folded, strict=True) if f not in known or folded.count(f) > 1), None)
        if wrong is not None:
            raise _Unfit(f"'{wrong[:80]}' stands twice, or is no member of a record (allowed: {', '.join(_MEMBERS)})")
        found = tuple(folded.index(name) if name in folded else -1 for name in known)
        return _kept(self._members, names, found)

    def _taken_apart(self, entity: Any, identity: Any, properties: Any) -> tuple[Shape, Sequence[Any]]:
        """Return a record's shape and its literals, those of its Id first."""
        if not isinstance(entity, str) or not entity.strip():
            raise _Unfit("it names no entityType")
        if properties is not None and not isinstance(properties, tuple):
            raise _Unfit(f"its properties are {KINDS[type(properties)]}, not a JSON object")
        names, values = properties or ((), ())
        literals: list[Any] = []
        form = None if identity is None else self._forms.take("Id", identity, literals)
        if tuple not in map(type, values):
            return Shape(entity, form, names, (), ()), (*literals, *values)
        forms, places = [], []
        for place, (name, value) in enumerate(zip(names, values, strict=True)):
            if type(value) is tuple and "converter" in value[0]:
                forms.append(self._forms.take(name, value, literals))
                places.append(place)
            else:
                literals.append(value)
        return Shape(entity, form, names, tuple(forms), tuple(places)), literals

    def _layout(self, shape: Shape, action: Any) -> _Layout | Fault:
        key = (shape, action if isinstance(action, str) else "")
        return self._layouts.get(key) or _kept(self._layouts, key, self._laid_out(*key))

    def _laid_out(self, shape: Shape, action_name: str) -> _Layout | Fault:
        action = ACTIONS.get(action_name.strip().lower())
        if action is None:
            return faults.fault(faults.UNKNOWN_ACTION, name=action_name[:80])
        if len(shape.names) > self.task.limits.columns:
            return faults.fault(faults.TOO_MANY_COLUMNS, found=len(shape.names), limit=self.task.limits.columns)
        compiled = self._compile(shape)
        return compiled if isinstance(compiled, Fault) else _Layout(compiled.entity, action, compiled.inputs, shape.entity)

    def blocks(self) -> list[Block]:
        """Return the blocks."""
        return [
            Block(layout.entity, layout.action, layout.inputs, [texts(column) for column in zip(*rows, strict=True)], positions)
            for layout, rows, positions in self._parts
        ]


def _told(entity: Any, user_id: Any) -> str:
    """Return what every result of a record tells besides, as members of a JSON object."""
    if isinstance(entity, str) and isinstance(user_id, str):
        return f'"entityType": {encode_basestring(entity[:_TOLD_CHARS])}, "userObjectId": {encode_basestring(user_id[:_TOLD_CHARS])}'
    told = {"entityType": entity, "userObjectId": text_of(user_id) if isinstance(user_id, bool) else user_id}
    return ", ".join(f'"{name}": {encode_basestring(value[:_TOLD_CHARS])}' for name, value in told.items() if isinstance(value, str))


def _kept(known: dict[Any, Any], key: Any, value: Any) -> Any:
    """Remember a value under a key, among so many at most, and return it."""
    if len(known) >= MAX_SHAPES:
        known.clear()
    known[key] = value
    return value


# Converters ------------------------------------------------------------------------------------------------------------
_PLAIN = Form()


class _Forms:
    """Tells how values are given. Forms are remembered, since the records of a collection give their values in few ways."""

    def __init__(self) -> None:
        self._known: dict[Any, Form] = {}

    def take(self, name: str, value: Any, literals: list[Any]) -> Form:
        """Return how the value of a property is given, and add its literals."""
        if type(value) is not tuple or "converter" not in value[0]:
            literals.append(value)
            return _PLAIN
        names, members = value
        place = next((names.index(n) for n in ("code", "properties", "value") if n in names), None)
        if place is None:
            raise _Unfit(f"{name}: a converter has a code, properties or a value")
        literal = members[place]
        labels: tuple[str, ...] = ()
        if names[place] == "properties" and type(literal) is tuple:
            labels, sought = literal
            literals += sought
        else:
            literals.append(literal)
        key = (names, members[:place], members[place + 1 :], labels)
        try:
            return self._known.get(key) or _kept(self._known, key, _form(name, value, names[place], labels))
        except TypeError:  # a list among the members, which cannot be remembered by
            raise _Unfit(f"{name}: the options of a converter are texts") from None


def _form(name: str, value: Members, by: str, labels: tuple[str, ...]) -> Form:
    said = dict(zip(*value, strict=True))
    converter, kind = said.pop("converter"), said.pop("type", None)
    if kind not in (None, "Code", "Custom") or type(converter) is not str:
        raise _Unfit(f"{name}: a converter has a name, and its type is Code or Custom")
    del said[by]
    wanted = {CODE: "code", BY_PROPERTIES: "properties" if by == "properties" else "code"}.get(converter, "value")
    if by != wanted or (by == "properties") != bool(labels) or kind not in (None, "Custom" if labels else "Code"):
        raise _Unfit(f"{name}: the converter {converter[:80]} has a code (type Code), properties (type Custom), or a value")
    if any(type(option) is not str for option in said.values()) or (said and wanted != "value"):
        raise _Unfit(f"{name}: the options of a converter are texts, and {converter[:80]} has {'some' if wanted == 'value' else 'none'}")
    return Form(BY_PROPERTIES if labels else CODE if by == "code" else converter, tuple(sorted(said.items())), labels)
