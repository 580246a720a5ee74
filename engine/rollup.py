"""The errors of a run rolled up: what is wrong, how often, where first. Memory is bounded whatever the results hold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from engine.results import at_fault

MAX_GROUPS = 5000
_MAX_LINES = 5
CUT_CHARACTERS = 200


@dataclass(slots=True)
class Group:
    """Errors that have code, column and value in common; of the groups beyond the limit, those that have the code in common."""

    code: str
    column: str
    value: str | None  # at most 200 characters; None: of any value, since there were too many
    example: str  # the first one's message
    count: int = 0
    lines: list[tuple[str, int]] = field(default_factory=list)  # (file, line) of the first ones


def roll_up(rows: Iterable[list[str]], max_groups: int = MAX_GROUPS) -> list[Group]:
    """Group rows of the results (the seven columns), of which only errors are counted; the most frequent group first.

    A record counts once, under the column of its first fault. At most `max_groups` groups, and one more for each code, are made.
    """
    groups: dict[tuple[str, str, str | None], Group] = {}
    for code, message, severity, line, properties, _, file in rows:
        if severity != "Error":
            continue
        column, value = _first_property(properties)
        key: tuple[str, str, str | None] = (code, column, value)
        if key not in groups and len(groups) >= max_groups:
            key = (code, "", None)
        group = groups.get(key)
        if group is None:
            group = groups[key] = Group(*key, _cut(message))
        group.count += 1
        if len(group.lines) < _MAX_LINES:
            group.lines.append((file, int(line)))
    return sorted(groups.values(), key=lambda group: -group.count)


def _first_property(properties: str) -> tuple[str, str]:
    column, value = next(iter(at_fault(properties).items()), ("", "")) if properties else ("", "")
    return _cut(str(column)), _cut(str(value))


def _cut(text: str) -> str:
    """Return at most 200 characters: a value may be as long as a whole cell."""
    return text if len(text) <= CUT_CHARACTERS else text[: CUT_CHARACTERS - 3] + "..."
