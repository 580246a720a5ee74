"""The meaning of a control file: its names looked up in the target, its options checked together, compiled into a plan.

The document's shape has been checked before (schemas/control.py); here it is data with places to point at.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.control.entities import Entity, find_entities
from engine.control.files import DEFAULT, compile_file, decimal_of, multi_entity_decimal
from engine.control.scope import Document, Path, Place, Target
from engine.plan import EntityPlan, FilePlan, Plan
from engine.tables import Tables, fold
from errors import ControlFileInvalid, Problem

__all__ = ["Document", "accepts_file", "compile", "entity_names", "file_names", "required_files"]


def compile(document: Document, tables: Tables, dialect: str) -> Plan:
    """Compile a control file against the target's tables; `dialect` is "postgresql" or "sqlite".

    Raises ControlFileInvalid with all its faults, those of its form included.
    """
    problems: list[Problem] = list(document.problems)
    root = Place(document, problems, document.data)
    target = Target(tables, dialect)
    entities = find_entities(target, root.at("entities"))
    file_places = root.at("files").entries() if root.at("files").value else []
    plans = {}
    if not any(map(_hides_decimal, document.faulty)):
        plans = _entity_plans(target, entities, [place for _, place in file_places])
    files = {name: compile_file(target, place, name, entities) for name, place in file_places if not place.is_faulty}
    if problems:
        raise ControlFileInvalid(list(dict.fromkeys(problems)))
    compiled = {name: plan for name, plan in files.items() if plan is not None}
    keys = {plan.table.key for plan in plans.values()}
    return Plan(
        name=document.data.get("name"),
        entities=plans,
        default=compiled.pop(DEFAULT, None) if file_places else FilePlan(DEFAULT),
        files=compiled,
        tables=tuple(sorted(keys, key=lambda key: (key[0] or "", key[1]))),
    )


def _hides_decimal(faulty: Path) -> bool:
    """Say whether what is at fault may be the decimal mark of some file, by which constants and defaults are read."""
    is_of_files = faulty[0] == "files" or (len(faulty) == 1 and faulty[0] not in ("name", "description"))
    return is_of_files and faulty[2:3] in ((), ("decimal",), ("entity",))


def _entity_plans(target: Target, entities: dict[str, Entity], files: Iterable[Place]) -> dict[str, EntityPlan]:
    """Compile every entity once for the files that use it first, so that also those which no file names are checked."""
    files = list(files)
    shared = multi_entity_decimal([place for place in files if not place.is_faulty])
    first: dict[tuple[str | int, ...], str] = {}
    for place in files:
        entity = entities.get(fold((place.value or {}).get("entity", "")))
        if entity is not None:
            first.setdefault(entity.place.path, decimal_of(place.value))
    plans = {name: entity.plan(target, shared or first.get(entity.place.path, ".")) for name, entity in entities.items()}
    return {name: plan for name, plan in plans.items() if plan is not None}


def entity_names(document: Document) -> tuple[str, ...]:
    """Return the names and aliases of the entities, in their order."""
    found = [entity[key] for entity in document.data["entities"] for key in ("entity", "alias") if key in entity]
    return tuple(dict.fromkeys(found))


def file_names(document: Document) -> tuple[str, ...]:
    """Return the names of the files that the control file describes, in their order."""
    return tuple(name for name in document.data.get("files", ()) if name != DEFAULT)


def required_files(document: Document) -> tuple[str, ...]:
    """Return the names of the files without which a batch cannot be scheduled."""
    return tuple(name for name in file_names(document) if (document.data["files"][name] or {}).get("required"))


def accepts_file(document: Document, name: str) -> bool:
    """Say whether a file of this name has a place: it is described, or any name is."""
    files = document.data.get("files")
    return not files or DEFAULT in files or name in files
