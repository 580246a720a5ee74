"""What records refer to and is not there, rolled up from the results: each value once, how often, and the key most like it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from engine import faults
from engine.results import at_fault

MAX_VALUES = 5000
_MAX_LINES = 5
_CODES = {faults.REFERENCE_NOT_FOUND.code, faults.RECORD_NOT_FOUND.code}
# The messages of those two kinds; of a record with several faults the message begins with the first.
_SAID = re.compile(r"There is no (.+?) with (.+?) '(.*?)'(?: to (?:update|delete))?(?:; the nearest is '(.*?)')?(?=$|; )", re.DOTALL)


@dataclass(slots=True)
class Missed:
    """One value that was sought in vain."""

    entity: str
    column: str
    value: str  # as the message shows it: at most 80 characters, `***` where it is masked
    nearest: str | None = None
    count: int = 0
    lines: list[tuple[str, int]] = field(default_factory=list)  # (file, line) of the first records


def missed(rows: Iterable[list[str]], max_values: int = MAX_VALUES) -> tuple[list[Missed], int]:
    """Roll up rows of the results (the seven columns), the most frequent first; and how many records were left out beyond `max_values`.

    A record counts once, for the first thing that is wrong with it.
    """
    found: dict[tuple[str, str, str], Missed] = {}
    left_out = 0
    for code, message, _, line, properties, _, file in rows:
        said = _SAID.match(message) if code in _CODES else None
        if said is None:
            continue
        entity, column, value, nearest = said.groups()
        value = _whole(properties, value)
        key = (entity, column, value)
        if key not in found and len(found) >= max_values:
            left_out += 1
            continue
        one = found.setdefault(key, Missed(entity, column, value, nearest))
        one.count += 1
        one.nearest = one.nearest or nearest
        if len(one.lines) < _MAX_LINES:
            one.lines.append((file, int(line)))
    return sorted(found.values(), key=lambda one: -one.count), left_out


def _whole(properties: str, shown: str) -> str:
    """Return the value itself where the message shows only its beginning, or stops at a quote in it."""
    values = at_fault(properties).values()
    whole = next((str(value) for value in values), shown)
    return whole[:200] if whole.startswith(shown.removesuffix("...")) else shown
