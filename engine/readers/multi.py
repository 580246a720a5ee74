"""The multi-entity form: rows that name their own entity and action, below `!Name` and `#Entity,Action,...` lines."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from engine import faults
from engine.chunk import Block, Chunk
from engine.faults import Fault
from engine.plan import Action, EntityPlan, Plan
from engine.readers.plain import delimited_rows
from engine.readers.rows import Rows
from engine.readers.sheet import SheetRows
from engine.readers.task import ACTIONS, NUMBER, Task, name_problem, place_names
from engine.tables import fold


@dataclass(slots=True)
class Layout:
    """How the rows of one entity and action are laid out under the present header."""

    entity: EntityPlan
    action: Action
    skipped: int  # fields before the values: entity, action and perhaps GroupOrder
    width: int  # fields of a row in all
    places: dict[str, int]  # of the inputs, in the row
    required: tuple[int, ...] = ()  # places whose cell must not be empty


@dataclass(slots=True)
class State:
    """What the `!` and `#` lines above a row say. `known` remembers layouts, or why a row cannot be laid out, until the next such line."""

    task: Task
    plan: Plan | None
    name: str | None = None
    name_line: int = 0
    header: list[str] | None = None
    header_line: int = 0
    known: dict[tuple[str, str], Layout | Fault] = field(default_factory=dict)

    def saved(self) -> dict[str, Any]:
        """Return what a reader needs to go on below the same lines, as plain data."""
        return {"name": self.name, "name_line": self.name_line, "header": self.header, "header_line": self.header_line}

    def restore(self, saved: dict[str, Any]) -> None:
        """Go on where `saved` was taken."""
        if saved.get("name") is not None:
            self.select(saved["name"], saved["name_line"])
        self.header, self.header_line = saved.get("header"), saved.get("header_line", 0)

    def select(self, name: str, line: int) -> None:
        """Take a `!` line: the named control file's entities from here on, below no header."""
        self.name, self.name_line, self.plan = name, line, self.task.resolve_name(name)
        self.header, self.known = None, {}

    def lose(self, row: Sequence[str], line: int) -> None:
        """Take a `!` line or a header that cannot be read: what it says of the rows below is unknown, and no line before may stand in."""
        if row and (row[0][:1] == "!" or (row[0][:1] == "#" and _is_header(row))):
            self.select("!", line)  # which no control file can be called

    def take_header(self, row: Sequence[str], line: int) -> None:
        """Take a `#` line. One that does not begin as a header does is a remark."""
        cells = [cell.strip() for cell in row]
        while cells and not cells[-1]:
            cells.pop()
        if _is_header(cells):
            self.header, self.header_line, self.known = cells, line, {}

    def unlike(self) -> str:
        """Return how values stand, where the header that was just taken says otherwise and is only a guide; "" where it does not."""
        if self.header is None or self.task.file.has_header or self.plan is None:
            return ""
        names = [fold(cell.lstrip("* ")) for cell in self.header[3 if _has_group(self.header) else 2 :]]
        entities = list({entity.name: entity for entity in self.plan.entities.values()}.values())
        if not entities or any(list(map(fold, entity.inputs))[: len(names)] == names for entity in entities):
            return ""
        return ",".join(entities[0].inputs)[:200]

    def layout(self, row: Sequence[str]) -> Layout | Fault:
        """Return how a row is laid out, or why that is not known."""
        key = (row[0], row[1] if len(row) > 1 else "")
        found = self.known.get(key)
        if found is None:
            if len(self.known) > 1_000:
                self.known.clear()
            found = self.known[key] = self._layout(*key)
        return found

    def _layout(self, entity_name: str, action_name: str) -> Layout | Fault:
        if self.plan is None:
            return faults.fault(faults.UNKNOWN_CONTROL, name=self.name, line=self.name_line)
        entity = self.plan.entity(entity_name.strip())
        if entity is None:
            known = sorted({e.name for e in self.plan.entities.values()})
            return faults.fault(
                faults.UNKNOWN_ENTITY, name=entity_name[:80], known=", ".join(known[:20]) or "none, unless a ! line before it names some"
            )
        action = ACTIONS.get(action_name.strip().lower())
        if action is None:
            return faults.fault(faults.UNKNOWN_ACTION, name=action_name[:80])
        if self.header is None or not self.task.file.has_header:
            skipped = 3 if self.task.is_ordered or _has_group(self.header or ()) else 2
            places = {name: skipped + index for index, name in enumerate(entity.inputs)}
            return Layout(entity, action, skipped, skipped + len(entity.inputs), places)
        return self._layout_by_header(entity, action, self.header)

    def _layout_by_header(self, entity: EntityPlan, action: Action, header: list[str]) -> Layout | Fault:
        skipped = 3 if _has_group(header) else 2
        names = [cell.lstrip("* ") for cell in header[skipped:]]
        if problem := name_problem(names):
            return faults.fault(faults.INVALID_HEADER, line=self.header_line, reason=problem)
        if len(names) > self.task.limits.columns:
            return faults.fault(faults.TOO_MANY_COLUMNS, found=len(names), limit=self.task.limits.columns)
        places = {name: skipped + index for name, index in place_names(names, entity.inputs).items()}
        extra = [name for index, name in enumerate(names, skipped) if index not in places.values()]
        if extra:
            warning = f"the entity {entity.name} has no input for: {', '.join(extra)}"
            if warning not in self.task.warnings:
                self.task.warnings.append(warning)
        required = tuple(index for index, cell in enumerate(header) if cell.startswith("*") and index >= skipped)
        return Layout(entity, action, skipped, skipped + len(names), places, required)


def _has_group(header: Sequence[str]) -> bool:
    return len(header) > 2 and header[2].lstrip("* ").lower() == "grouporder"


def _is_header(row: Sequence[str]) -> bool:
    return [cell.strip().lstrip("#* ").lower() for cell in row[:2]] == ["entity", "action"]


def read_multi(task: Task, rows: Rows | SheetRows | None = None) -> Iterator[Chunk]:
    """Yield the chunks of a file in the multi-entity form: delimited text, or a sheet whose `rows` are given."""
    rows = rows or delimited_rows(task)
    lines = rows.lines
    state = State(task, task.plan)
    state.restore(task.resume)
    lines.skip_to(task.start_line)
    while True:
        builder = _Builder(task, state)
        chars, count = task.chunk_bytes, task.chunk_records
        is_over = True
        while len(builder.lines) < count and chars > 0:
            before = lines.chars_dropped
            rows.check = _Check(state)
            taken, starts, unread = rows.take(count - len(builder.lines), chars)
            if not taken:
                break
            is_over = False
            chars -= lines.chars_dropped - before
            for index, (line, row) in enumerate(zip(starts, taken, strict=True)):
                builder.add(line, row, unread.get(index))
        if is_over:
            return
        if builder.lines:
            yield task.chunk(builder.lines, builder.blocks(), builder.wrong, lines.number, state.saved(), builder.groups)


class _Check:
    """Judges a row that spans lines by the `!` and `#` lines before it, which the reader has not yet seen."""

    def __init__(self, state: State) -> None:
        self._begun, self._state = state, copy(state)
        self._seen = 0

    def __call__(self, before: list[list[str]], unread: Container[int], row: list[str]) -> Fault | None:
        if len(before) < self._seen:  # the same lines are taken again, in another way
            self._state, self._seen = copy(self._begun), 0
        for number in range(self._seen, len(before)):
            (self._state.lose if number in unread else partial(_take_mark, self._state))(before[number], 0)
        self._seen = len(before)
        if row[0][:1] in ("!", "#"):
            return None
        layout = self._state.layout(row)
        return layout if isinstance(layout, Fault) else _wrong_width(layout, row)


def _take_mark(state: State, row: Sequence[str], line: int) -> str:
    """Take a `!` or `#` line and return its mark; "" for another one."""
    mark = row[0][:1] if row else ""
    if mark == "!":
        state.select(row[0][1:].strip(), line)
    elif mark == "#":
        state.take_header(row, line)
    return mark if mark in ("!", "#") else ""


def _wrong_width(layout: Layout, row: Sequence[str]) -> Fault | None:
    """Return the fault of a row that is too short, or whose surplus fields are not all empty (as spreadsheets pad rows)."""
    if len(row) == layout.width or (len(row) > layout.width and not any(row[layout.width :])):
        return None
    return faults.fault(faults.COLUMN_COUNT, expected=layout.width, found=len(row))


class _Builder:
    """Gathers the positions of one chunk: consecutive rows with one layout become a block."""

    def __init__(self, task: Task, state: State) -> None:
        self._task, self._state = task, state
        self.lines: list[int] = []
        self.wrong: dict[int, list[Fault]] = {}
        self.groups: list[str | None] | None = [] if task.is_ordered else None
        self._parts: list[tuple[Layout, list[list[str]], list[int]]] = []
        self._words = frozenset({"", *task.file.nulls})

    def add(self, line: int, row: list[str], unread: Fault | None) -> None:
        """Add a row: a record, an unreadable line, or a `#` line; `!` lines and blank ones only change the state, or nothing."""
        if unread is not None:
            self._state.lose(row, line)
            self._add_wrong(line, unread)
            return
        if not any(row) or (len(row) == 1 and not row[0].strip()):
            return
        mark = _take_mark(self._state, row, line)
        if mark == "#":
            said, inputs = ",".join(row).rstrip(",")[:200], self._state.unlike() if _is_header(row) else ""
            kind = faults.UNLIKE_HEADER if inputs else faults.SKIPPED_HEADER
            self._add_wrong(line, faults.fault(kind, line=said, inputs=inputs))
        if mark:
            return
        layout = self._state.layout(row)
        if isinstance(layout, Fault):
            self._add_wrong(line, layout)
            return
        if self._task.format == "xlsx":  # whose rows end with the last cell that holds anything
            row += [""] * (layout.width - len(row))
        wrong = self._judge(layout, row)
        if wrong:
            self.wrong[len(self.lines)] = wrong
        else:
            self._keep(layout, row)
        if self.groups is not None:
            self.groups.append(_group(layout, row))
        self.lines.append(line)

    def _add_wrong(self, line: int, fault: Fault) -> None:
        self.wrong[len(self.lines)] = [fault]
        self.lines.append(line)
        if self.groups is not None:
            self.groups.append(None)

    def _judge(self, layout: Layout, row: list[str]) -> list[Fault]:
        if fault := _wrong_width(layout, row):
            return [fault]
        if self.groups is not None and _group(layout, row) is None:
            found = row[2].strip()[:80] if layout.skipped == 3 else ""
            return [faults.fault(faults.GROUP_ORDER, "GroupOrder", found=found)]
        names = self._state.header or ()
        return [faults.fault(faults.NOT_NULL, names[index].lstrip("* ")) for index in layout.required if row[index].strip() in self._words]

    def _keep(self, layout: Layout, row: list[str]) -> None:
        if not self._parts or self._parts[-1][0] is not layout:
            self._parts.append((layout, [], []))
        self._parts[-1][1].append(row)
        self._parts[-1][2].append(len(self.lines))

    def blocks(self) -> list[Block]:
        """Return the blocks."""
        made = []
        for layout, kept, positions in self._parts:
            columns = list(zip(*kept, strict=False))  # some rows may be padded
            chosen: list[Sequence[str | None]] = [columns[index] for index in layout.places.values()]
            made.append(Block(layout.entity, layout.action, tuple(layout.places), chosen, positions))
        return made


def _group(layout: Layout, row: Sequence[str]) -> str | None:
    """Return a row's GroupOrder, or None where it has none that is a number."""
    text = row[2].strip() if layout.skipped == 3 and len(row) > 2 else ""
    return text if NUMBER.fullmatch(text) else None
