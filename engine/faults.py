"""The catalogue of what may be said of a record: code, severity, message, and an explanation for docs/faults.md.

A fault is data, not an exception: it becomes the record's line in the results. Codes are On Key's where it has one,
others are named alike.
"""

from dataclasses import dataclass
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class Kind:
    """One entry of the catalogue."""

    code: str
    severity: str  # Information, Warning or Error
    message: str  # a str.format template
    explanation: str  # a full sentence or more, for docs/faults.md


class Fault(NamedTuple):
    """What is wrong with (or worth saying of) one record. `column` and `value` go to the results' Properties."""

    kind: Kind
    message: str
    column: str = ""
    value: str = ""


CATALOGUE: dict[str, Kind] = {}


def _kind(code: str, severity: str, message: str, explanation: str) -> Kind:
    CATALOGUE[code] = kind = Kind(code, severity, message, explanation)
    return kind


def fault(kind: Kind, column: str = "", value: str = "", **details: object) -> Fault:
    """Make a fault of this kind; the template sees `column`, `value` (shortened to 80 characters) and `details`."""
    shown = value if len(value) <= 80 else value[:77] + "..."
    return Fault(kind, kind.message.format(column=column, value=shown, **details), column, value)


# What became of a record ----------------------------------------------------------------------------------------
CREATED = _kind("Core_Data_RecordCreated", "Information", "Record successfully created", "A new row was inserted.")
UPDATED = _kind("Core_Data_RecordUpdated", "Information", "Record successfully updated", "The row that the record's identity names was changed.")
UNCHANGED = _kind(
    "Core_Data_RecordUnchanged", "Information", "Record already up to date",
    "The row already holds what the record says, so it was not written: no trigger ran and no lock was held. It counts as skipped.",
)  # fmt: skip
DELETED = _kind("Core_Data_RecordDeleted", "Information", "Record successfully deleted", "The row that the record's identity names was deleted.")
ROLLED_BACK = _kind(
    "Core_Data_RolledBack", "Warning", "Rolled back, because another record of this all-or-none import was refused",
    "An AllOrNone import keeps nothing if any record is refused. This record alone would have been applied. It counts as unprocessed.",
)  # fmt: skip
NOT_REACHED = _kind(
    "Core_Data_NotReached", "Warning", "Not processed: {reason}",
    "The run ended (cancelled, failed or timed out) before this record's turn. It counts as unprocessed.",
)  # fmt: skip
SKIPPED_HEADER = _kind(
    "Core_ImportFile_SkippedHeaderLine", "Information", "Skipped header line '{line}'",
    "A `#` line of the multi-entity form names columns. It is receipted, but is no record and is not counted.",
)  # fmt: skip
SKIPPED_MISSING = _kind(
    "Core_Data_RecordSkipped", "Information", "Skipped: no {entity} with {column} '{value}'",
    "The look-up's `missing: skip` says that a record without this reference is to be left out. It counts as skipped.",
)  # fmt: skip

# What is wrong with a record: identity and references --------------------------------------------------------------
RECORD_EXISTS = _kind(
    "Core_Data_RecordExists", "Error", "A {entity} with {column} '{value}' exists already, so it cannot be inserted; use Merge to change it",
    "The action Insert found a row with the record's identity.",
)  # fmt: skip
RECORD_NOT_FOUND = _kind(
    "Core_Data_RecordNotFound", "Error", "There is no {entity} with {column} '{value}' to {action}{nearest}",
    "The action Update or Delete found no row with the record's identity.",
)  # fmt: skip
REFERENCE_NOT_FOUND = _kind(
    "Core_Data_ReferenceNotFound", "Error", "There is no {entity} with {column} '{value}'{nearest}",
    "A look-up found no row. The message names the existing key most like it. `missing: clear` or `missing: skip` in the control file say otherwise.",
)  # fmt: skip
LOOKUP_AMBIGUOUS = _kind(
    "Core_Data_LookupAmbiguous", "Error", "There are several {entity} with {column} '{value}', so it is not certain which one is meant",
    "A look-up by columns without a unique index found more than one row.",
)  # fmt: skip
# What the database refused ------------------------------------------------------------------------------------------
UNIQUE_VIOLATED = _kind(
    "Core_Data_DuplicateKey", "Error", "Another {table} has this {column} already: '{value}' (unique constraint {constraint})",
    "The database refused the record, because a unique constraint or index other than the record's identity has these values already.",
)  # fmt: skip
FOREIGN_KEY_VIOLATED = _kind(
    "Core_Data_ForeignKeyViolated", "Error", "{column} '{value}' refers to a row that {reason} (foreign key {constraint})",
    "The database refused the record: what it refers to does not exist, or what it would delete or change is still referred to.",
)  # fmt: skip
CHECK_VIOLATED = _kind(
    "Core_Data_CheckViolated", "Error", "The record violates the check constraint {constraint} of {table}{rule}",
    "The database refused the record by a CHECK of the table or of a column's domain.",
)  # fmt: skip
EXCLUSION_VIOLATED = _kind(
    "Core_Data_ExclusionViolated", "Error", "The record conflicts with another one (exclusion constraint {constraint})",
    "The database refused the record by an exclusion constraint.",
)  # fmt: skip
NOT_ALLOWED = _kind(
    "Core_Data_NotAllowed", "Error", "The database does not allow this: {reason}",
    "The role with which the target is used lacks a privilege, or row security refuses the row.",
)  # fmt: skip
DATABASE_REFUSED = _kind(
    "Core_Data_DatabaseRefused", "Error", "The database refused the record: {reason}",
    "A trigger raised an error, or a value could not be cast. The text is the database's own.",
)  # fmt: skip
NOT_WRITTEN = _kind(
    "Core_Data_NotWritten", "Error", "The database accepted the record but did not write it (a trigger or rule suppressed it)",
    "A trigger, rule or row security changed nothing where a row should have been written.",
)  # fmt: skip
