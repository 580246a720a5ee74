"""What may be shown of rows as they stand in a file.

What the control file masks is shown by no page and in no reply. Rows that are to be mended and sent again must be whole: those, and files
themselves, are given to keys that may import, which have such rows in any case, and to no others.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from catalog import batches, files
from catalog.batches import Batch
from engine.plan import EntityPlan
from engine.readers.task import place_names
from errors import ControlFileInvalid, Refusal, TargetUnavailable
from routes import parts
from routes.auth import caller
from schemas import control

MASK = "***"


def may_mask(batch: Batch) -> bool:
    """Tell whether a control file that the batch uses masks a column."""
    return any(map(_masks, _controls_of(batch)))


def _controls_of(batch: Batch) -> list[str]:
    return [batch.control, *batches.control_pins_of(parts().catalog, batch.id)]


@lru_cache(maxsize=256)
def _masks(digest: str) -> bool:
    """Tell it of one control file. A digest's bytes never change, so it is kept."""
    with parts().spool.open(digest) as blob:
        return control.parse(blob.read(), parts().settings.max_control_bytes).masks


def refuse_rows_of(batch: Batch) -> None:
    """Refuse, with 403, rows as they stand in the batch's files to a key that may not import, where a control file masks a column."""
    if not caller().can("import"):
        _refuse_masked(_controls_of(batch))


def refuse_bytes_of(digest: str) -> None:
    """Do the same for a file, whatever batches have it."""
    if not caller().can("import"):
        _refuse_masked(files.controls_of(parts().catalog, digest))


def _refuse_masked(controls: Iterable[str]) -> None:
    if any(map(_masks, controls)):
        raise Refusal(403, "masked", "A control file masks a column of this file: its rows are given only to keys that may import.")


def entity_of(digest: str, name: str) -> EntityPlan | None:
    """Return what the rows of a control file's file are; None where they say so themselves, or the target does not tell what it is now."""
    try:
        with parts().spool.open(digest) as stored:
            plan = parts().compile(stored.read())
    except (ControlFileInvalid, TargetUnavailable, Refusal):
        return None
    file = plan.file(name)
    return file.entity if file else None


def masked_names(entity: EntityPlan, names: Sequence[str]) -> set[str]:
    """Return which of the names that a file gives its columns must not be shown with their values."""
    hidden = {name for mapping in entity.mappings if mapping.is_masked for name in mapping.inputs()}
    return _as_in_file(entity, names, hidden | entity.identity_inputs if entity.is_identity_masked else hidden)


def names_behind(entity: EntityPlan, column: str, names: Sequence[str]) -> set[str]:
    """Return which of the names that a file gives its columns fill what a fault is about: a column of the table, several, or an input."""
    columns = set(column.split(", "))
    filling = {name for m in entity.mappings if not columns.isdisjoint(c.name for c in m.columns) for name in m.inputs()}
    return _as_in_file(entity, names, filling | columns)


def _as_in_file(entity: EntityPlan, names: Sequence[str], inputs: set[str]) -> set[str]:
    return {names[index] for name, index in place_names(names, entity.inputs).items() if name in inputs}
