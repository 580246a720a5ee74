"""The files section: how each file is read, and what its rows are."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Mapping as Map
from typing import Any

from engine.control.entities import Entity, pick_entity
from engine.control.scope import Place, Target
from engine.plan import Action, Empty, EntityPlan, FilePlan
from engine.readers import FORMATS
from engine.readers.bytestream import bare_name

COLLECTION = "collection"
DEFAULT = "DEFAULT"  # the name that stands for any other

_WITHOUT_MEANING = {
    "json": ("separator", "quote", "header"),
    "jsonl": ("separator", "quote", "header"),
    "collection": ("separator", "quote", "header", "decimal"),
    "xlsx": ("separator", "quote", "encoding", "decimal"),
}
_NO_CHARACTER_SETS = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "utf-7", "mbcs", "oem"})
_COMMON_ENCODINGS = ("utf-8", "utf-16", "windows-1252", "iso-8859-1", "iso-8859-15", "cp437", "cp850", "shift_jis", "gb18030", "big5")


def form(name: str, options: Map[str, Any]) -> str:
    """Return how a file is read: as its options say, else by the ending of its name, else as csv.

    >>> form("flights.jsonl.gz", {}), form("flights", {"read": "tsv"}), form("flights", {})
    ('jsonl', 'tsv', 'csv')
    """
    if "read" in options:
        return str(options["read"])
    return FORMATS.get(bare_name(name).rpartition(".")[2], "csv")


def decimal_of(options: Map[str, Any] | None) -> str:
    """Return the decimal mark of a file's numbers."""
    return str((options or {}).get("decimal", "."))


def multi_entity_decimal(places: Iterable[Place]) -> str | None:
    """Return the decimal mark of the files in the multi-entity form, which must agree on it; None where there are none."""
    found = [place for place in places if "entity" not in (place.value or {}) and (place.value or {}).get("read") != COLLECTION]
    marks = {decimal_of(place.value) for place in found}
    if len(marks) > 1:
        differing = next(place for place in found if decimal_of(place.value) != ".")
        message = "all files without an `entity` must have the same decimal mark; name it at the mappings' converters instead"
        differing.at("decimal").fault(message)
    return min(marks, default=None)


def compile_file(target: Target, place: Place, name: str, entities: dict[str, Entity]) -> FilePlan | None:
    """Compile how one file is read; None where something is wrong, which then has been said."""
    before = len(place.problems)
    options = place.value or {}
    place = Place(place.document, place.problems, options, place.path)
    _check_form(place, form(name, options), name)
    _check_marks(place)
    plan = _rows(target, place, entities, before)
    if name == DEFAULT and options.get("required"):
        place.at("required").fault("only a file with a name can be required")
    if len(place.problems) > before:
        return None
    action, empty = options.get("action"), options.get("empty")
    return FilePlan(
        name=name,
        read=options.get("read"),
        separator=options.get("separator"),
        quote=options.get("quote", '"'),
        encoding=options.get("encoding", "utf-8"),
        has_header=options.get("header", True),
        sheet=options.get("sheet"),
        nulls=tuple(options.get("nulls", ("",))),
        decimal=decimal_of(options),
        is_trimmed=options.get("trim", True),
        entity=plan,
        action=None if action is None else Action(action),
        order=options.get("order", 1),
        is_required=options.get("required", False),
        min_rows=options.get("min_rows", 1),
        empty=None if empty is None else Empty(empty),
    )


def _check_form(place: Place, read: str, name: str) -> None:
    options = place.value
    at = place.at("read") if "read" in options else place
    if "sheet" in options and read != "xlsx":
        place.at("sheet").fault(f"a {read} file has no sheets")
    for key in _WITHOUT_MEANING.get(read, ()):
        if key in options:
            place.at(key).fault(f"`{key}` has no meaning in {'an' if read == 'xlsx' else 'a'} {read} file")
    if read in ("json", "jsonl") and "entity" not in options:
        at.fault(f"a {read} file needs an `entity` and an `action`: only csv, tsv and xlsx files have a form whose rows name their own")
    if read == COLLECTION and "entity" in options:
        place.at("entity").fault("the records of a collection name their own entity and action")
    if read == "tsv" and options.get("separator", "\t") != "\t":
        place.at("separator").fault("a tsv file is separated by tabs; write `read: csv` for another separator")


def _check_marks(place: Place) -> None:
    options = place.value
    separator, quote = options.get("separator"), options.get("quote", '"')
    if separator is not None and not _is_mark(separator):
        place.at("separator").fault('the separator is one character, no space and no line end (a tab is written "\\t")')
    if quote and not _is_mark(quote):
        place.at("quote").fault('the quote is one character, no space and no line end, or "" where nothing is quoted')
    if separator is not None and separator == quote:
        place.at("separator").fault("the separator and the quote are the same")
    encoding = options.get("encoding")
    if encoding is not None and not _is_character_set(encoding):
        place.at("encoding").fault(f"'{encoding}' is no known encoding", encoding, _COMMON_ENCODINGS)


def _is_mark(text: str) -> bool:
    return len(text) == 1 and text not in "\r\n\0 \ufeff"


def _is_character_set(encoding: str) -> bool:
    try:
        found = codecs.lookup(encoding)
        "".encode(encoding)  # refuses the codecs that turn bytes into bytes
    except (LookupError, ValueError):
        return False
    return found.name not in _NO_CHARACTER_SETS


def _rows(target: Target, place: Place, entities: dict[str, Entity], before: int) -> EntityPlan | None:
    options = place.value
    if "entity" not in options:
        if "action" in options:
            place.at("action").fault("an `action` needs an `entity`: without it each row names its own")
        return None
    if "action" not in options:
        place.at("entity").fault("a file with an `entity` needs an `action`", "", [action.value for action in Action])
    entity = pick_entity(target, place.at("entity"), entities)
    plan = entity.plan(target, decimal_of(options)) if entity else None
    if plan is not None and plan.identity is None and options.get("action") not in (None, Action.INSERT.value):
        place.at("action").fault(
            f"{options['action']} needs to find the rows of {plan.table.name}, but the entity {plan.name} has no `id` mapping, "
            "and neither the primary key nor a single unique key of the table is mapped",
            "", [Action.INSERT.value],
        )  # fmt: skip
    return plan
