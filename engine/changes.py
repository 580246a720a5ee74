"""What a dry run tells of a row that would be updated: the columns that change, what they hold, and what they would hold.

It is said in the results' Properties, as the member `changed`, beside what else is told of a record.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from json.encoder import encode_basestring

from engine.ops import Ops, Written
from engine.plan import EntityPlan

MEMBER, BESIDES = "changed", "changedBesides"
VALUE_CHARS = 200  # of a value
RECORD_CHARS = 4_000  # of a record's values: what is beyond them is only counted, so that a chunk of wide rows stays small
_HIDDEN = '"***"'

Change = tuple[int, str | None, str | None]  # the number of a written column, what it holds, what it would hold


def told(ops: Ops, written: Sequence[Written], changes: Iterable[Change], count: int) -> str:
    """Return the members of a JSON object that tell a record's changes, as many of its `count` as there is room for.

    Values may be cut beforehand, but not to less than one character more than are shown.
    """
    hides_all = _hides_all(ops.entity)
    members: list[str] = []
    room = RECORD_CHARS
    for number, old, new in changes:
        column = written[number]
        is_hidden = hides_all or column.is_masked
        shown = (_HIDDEN, _HIDDEN) if is_hidden else (_as_json(old), _as_json(new))
        room -= len(shown[0]) + len(shown[1])
        if room < 0:
            break
        members.append(f'{encode_basestring(column.column.name)}: {{"old": {shown[0]}, "new": {shown[1]}}}')
    more = f', "{BESIDES}": {count - len(members)}' if count > len(members) else ""
    return f'"{MEMBER}": {{{", ".join(members)}}}{more}'


def _as_json(text: str | None) -> str:
    if text is None:
        return "null"
    return encode_basestring(text if len(text) <= VALUE_CHARS else f"{text[:VALUE_CHARS]}...")


def _hides_all(entity: EntityPlan) -> bool:
    """Say whether any column may hold what another one masks: a trigger or a view may have copied it there."""
    return (entity.table.has_triggers or entity.table.has_rewrites) and any(m.is_masked for m in entity.mappings)
