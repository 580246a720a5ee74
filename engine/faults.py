"""The catalogue of what may be said of a record: code, severity, message, and an explanation for docs/faults.md.

A fault is data, not an exception: it becomes the record's line in the results. Codes are On Key's where it has one,
others are named alike.
"""

from dataclasses import dataclass, replace
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
UPDATED = _kind(
    "Core_Data_RecordUpdated", "Information", "Record successfully updated", "The row that the record's identity names was changed."
)
UNCHANGED = _kind(
    "Core_Data_RecordUnchanged", "Information", "Record already up to date",
    "The row already holds what the record says, so it was not written: no trigger ran and no lock was held. It counts as skipped.",
)  # fmt: skip
DELETED = _kind(
    "Core_Data_RecordDeleted", "Information", "Record successfully deleted", "The row that the record's identity names was deleted."
)
ROLLED_BACK = _kind(
    "Core_Data_RolledBack", "Warning", "Rolled back with the whole of this all-or-none import",
    "An AllOrNone import keeps nothing if any record is refused, or if it is stopped. This record alone would have been applied. "
    "It counts as unprocessed.",
)  # fmt: skip
NOT_REACHED = _kind(
    "Core_Data_NotReached", "Warning", "Not processed: {reason}",
    "The run ended (cancelled, failed or timed out) before this record's turn. It counts as unprocessed.",
)  # fmt: skip
SKIPPED_HEADER = _kind(
    "Core_ImportFile_SkippedHeaderLine", "Information", "Skipped header line '{line}'",
    "A `#` line of the multi-entity form names columns. It is receipted, but is no record and is not counted.",
)  # fmt: skip
UNLIKE_HEADER = replace(
    SKIPPED_HEADER, severity="Warning", message=f"{SKIPPED_HEADER.message}, which is not how the values stand: {{inputs}}"
)
SKIPPED_MISSING = _kind(
    "Core_Data_RecordSkipped", "Information", "Skipped: no {entity} with {column} '{value}'",
    "The look-up's `missing: skip` says that a record without this reference is to be left out. It counts as skipped.",
)  # fmt: skip

# What is wrong with a record: identity and references --------------------------------------------------------------
RECORD_EXISTS = _kind(
    "Core_Data_RecordExists", "Error",
    "A {entity} with {column} '{value}' exists already, so it cannot be inserted; use Merge to change it",
    "The action Insert found a row with the record's identity.",
)  # fmt: skip
RECORD_NOT_FOUND = _kind(
    "Core_Data_RecordNotFound", "Error", "There is no {entity} with {column} '{value}' to {action}",
    "The action Update or Delete found no row with the record's identity.",
)  # fmt: skip
REFERENCE_NOT_FOUND = _kind(
    "Core_Data_ReferenceNotFound", "Error", "There is no {entity} with {column} '{value}'{nearest}",
    "A look-up found no row. The message names the existing key most like it (for the first 20 such keys of each chunk).\n"
    "`missing: clear` or `missing: skip` say otherwise.",
)  # fmt: skip
LOOKUP_AMBIGUOUS = _kind(
    "Core_Data_LookupAmbiguous", "Error", "More than one {entity} has {column} '{value}', so it is not certain which one is meant",
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
KEY_LIMITED = _kind(
    "Core_Data_KeyLimited", "Error", "The key of this import may not {action} in {table}; it is limited to {allowed}",
    "The key with which the batch was made may write to some tables only, or may do some actions only, and the record asks for another.\n"
    "`Merge` has to be allowed by name: the right to insert and to update does not include it, nor it them.",
)  # fmt: skip
DATABASE_REFUSED = _kind(
    "Core_Data_DatabaseRefused", "Error", "The database refused the record: {reason}",
    "A trigger raised an error, or a value could not be cast. The text is the database's own.",
)  # fmt: skip
DEFERRED_VIOLATED = _kind(
    "Core_Data_DeferredConstraintViolated", "Error",
    "The constraint {constraint}, which waits for the end of the import, does not hold: {reason}",
    "An AllOrNone import leaves INITIALLY DEFERRED constraints to its end. The database names the constraint, but no single record.",
)  # fmt: skip
NOT_WRITTEN = _kind(
    "Core_Data_NotWritten", "Error", "The database accepted the record but did not write it (a trigger or rule suppressed it)",
    "A trigger, rule or row security changed nothing where a row should have been written.",
)  # fmt: skip

# What is wrong with a value -------------------------------------------------------------------------------------------
NOT_NULL = _kind(
    "Core_NotNullValidator", "Error", "{column} must have a value",
    "The cell is empty or null, but its column, or the control file's `required` or `empty: error`, demands a value.",
)  # fmt: skip
KEY_MISSING = _kind(
    "Core_Data_KeyMissing", "Error", "The key part {column} of {entity} has no value{absent}, so the record cannot be told from others",
    "A part of the record's identity is empty. Null never equals null: such a record would be created anew every time.",
)  # fmt: skip
REFERENCE_INCOMPLETE = _kind(
    "Core_Data_ReferenceIncomplete", "Error", "{column} has no value, so it is not certain which {entity} is meant",
    "Some parts of a reference's key are filled and others empty. `missing: clear` makes such a reference null.",
)  # fmt: skip
INVALID_INTEGER = _kind(
    "Core_Data_InvalidInteger", "Error", "'{value}' is no whole number for {column} (expected {expected})",
    "A whole number has digits only, with an optional sign, and thousands marks only where the control file names them.",
)  # fmt: skip
INVALID_NUMBER = _kind(
    "Core_Data_InvalidNumber", "Error", "'{value}' is no number for {column} (expected {expected})",
    "A number has digits, an optional sign, decimal mark and exponent. NaN and Infinity are no numbers.",
)  # fmt: skip
OUT_OF_RANGE = _kind(
    "Core_Data_OutOfRange", "Error", "'{value}' is out of range for {column} (expected {expected})",
    "The number is larger or smaller than the column can hold.",
)  # fmt: skip
TOO_MANY_DECIMALS = _kind(
    "Core_Data_TooManyDecimals", "Error", "'{value}' has more digits after the point than {column} keeps (expected at most {expected})",
    "Nothing is rounded: a number or time with more decimals than its column keeps is refused, unless those are zeros.",
)  # fmt: skip
INEXACT = _kind(
    "Core_Data_Inexact", "Error", "'{value}' would not read back the same from {column} (expected {expected})",
    "SQLite keeps the values of this column as binary numbers, and this value would come back as another one.",
)  # fmt: skip
INVALID_BOOLEAN = _kind(
    "Core_Data_InvalidBoolean", "Error", "'{value}' is no truth value for {column} (expected {expected})",
    "The words for true and false are true, t, yes, y, 1 and false, f, no, n, 0 in any case, or those that the control file names.",
)  # fmt: skip
INVALID_DATE = _kind(
    "Core_Data_InvalidDate", "Error", "'{value}' is no date for {column} (expected {expected})",
    "The text has not the expected form, or there is no such day, as 2024-02-30.",
)  # fmt: skip
INVALID_DATETIME = _kind(
    "Core_Data_InvalidDateTime", "Error", "'{value}' is no date and time for {column} (expected {expected})",
    "The text has not the expected form, or there is no such instant, also not on the clocks of the `timezone` that is given.",
)  # fmt: skip
INVALID_TIME = _kind(
    "Core_Data_InvalidTime", "Error", "'{value}' is no time of day for {column} (expected {expected})",
    "The text has not the expected form, or there is no such time.",
)  # fmt: skip
ZONE_MISSING = _kind(
    "Core_Data_ZoneMissing", "Error", "'{value}' says no time zone, but {column} needs one (expected {expected})",
    "No zone is guessed: write it with the value (`Z`, `+02:00`), or name a `timezone` in the control file.",
)  # fmt: skip
ZONE_UNEXPECTED = _kind(
    "Core_Data_ZoneUnexpected", "Error", "'{value}' says a time zone, but {column} keeps none (expected {expected})",
    "The column keeps no zone, and dropping it would change the instant. Name a `timezone` in the control file to convert to.",
)  # fmt: skip
INVALID_DURATION = _kind(
    "Core_Data_InvalidDuration", "Error", "'{value}' is no duration for {column} (expected {expected})",
    "A duration is ISO 8601 (`P1DT2H30M`) or written as PostgreSQL does (`1 day 02:30:00`).",
)  # fmt: skip
INVALID_UUID = _kind(
    "Core_Data_InvalidUuid", "Error", "'{value}' is no UUID for {column} (expected {expected})",
    "A UUID has 32 hexadecimal digits, with or without hyphens or braces.",
)  # fmt: skip
INVALID_JSON = _kind(
    "Core_Data_InvalidJson", "Error", "{column} holds no valid JSON: {reason}",
    "The text of a JSON column must be one JSON value without duplicate keys, NaN or Infinity.",
)  # fmt: skip
INVALID_BINARY = _kind(
    "Core_Data_InvalidBinary", "Error", "'{value}' cannot be read as bytes for {column} (expected {expected})",
    "Binary values are written as hexadecimal digits, or as base64 where the control file's `format` says so.",
)  # fmt: skip
INVALID_ARRAY = _kind(
    "Core_Data_InvalidArray", "Error", "'{value}' is no list for {column} (expected {expected}): {reason}",
    "A list is written as PostgreSQL does (`{{a,b}}`) or as a JSON array (`[\"a\",\"b\"]`), and each element must suit the column's type.",
)  # fmt: skip
INVALID_TEXT = _kind(
    "Core_Data_InvalidText", "Error", "{column} holds a character that cannot be stored: {reason}",
    "NUL and lone surrogates cannot be stored as text.",
)  # fmt: skip
NOT_IN_ENUM = _kind(
    "Core_Data_NotInEnum", "Error", "'{value}' is not allowed for {column} (allowed: {expected})",
    "The column's type lists the values that it can have.",
)  # fmt: skip
NOT_IN_MAP = _kind(
    "Core_Data_NotInMap", "Error", "'{value}' is not in the map of {column} (allowed: {expected})",
    "The control file's `map` does not name the value, and has no `mapDefault`.",
)  # fmt: skip
TOO_LONG = _kind(
    "Core_Data_TooLong", "Error", "The value of {column} has {length} characters (expected at most {expected}): '{value}'",
    "Nothing is cut: a text longer than its column is refused.",
)  # fmt: skip
PATTERN_MISMATCH = _kind(
    "Core_Data_PatternMismatch", "Error", "'{value}' does not match the pattern of {column} (expected {expected})",
    "The control file's `pattern` must match the whole value.",
)  # fmt: skip
FILE_REFUSED = _kind(
    "Core_ImportFile_FileRefused", "Error", "The file cannot be read: {reason}",
    "What is wrong concerns the whole file (its header, its encoding, its compression), so no line of it was taken.",
)  # fmt: skip

# What is wrong with a line --------------------------------------------------------------------------------------------
COLUMN_COUNT = _kind(
    "Core_ImportFile_ColumnCount", "Error", "Expected {expected} fields, found {found}",
    "The line has more or fewer fields than the header, or, without a header, than the entity has inputs.",
)  # fmt: skip
STRAY_QUOTE = _kind(
    "Core_ImportFile_StrayQuote", "Error", "Something follows the closing quote of a field; a quote within a quoted field is written twice",
    "Where a quoted field ends, only the separator or the line's end may follow. Reading goes on at the next line.",
)  # fmt: skip
UNCLOSED_QUOTE = _kind(
    "Core_ImportFile_UnclosedQuote", "Error", "A quote that opens in this line is not closed as it should be (read on for {length} {unit})",
    "The quoted field would reach to the end of the file or beyond the limits. Only this line is lost; reading goes on at the next one.",
)  # fmt: skip
NUL_CHARACTER = _kind(
    "Core_ImportFile_NulCharacter", "Error", "The line holds a NUL character (at character {at})",
    "NUL cannot be stored as text. Often such a file is UTF-16 without a byte order mark, or damaged.",
)  # fmt: skip
INVALID_ENCODING = _kind(
    "Core_ImportFile_InvalidEncoding", "Error", "The line is not valid {encoding}: {found} at character {at}",
    "The bytes are no text in the file's encoding. The control file's `encoding` names another one.",
)  # fmt: skip
FIELD_TOO_LONG = _kind(
    "Core_ImportFile_FieldTooLong", "Error", "A field is longer than the limit of {limit} characters",
    "The limit protects the service's memory. MAX_FIELD_CHARS sets it.",
)  # fmt: skip
LINE_TOO_LONG = _kind(
    "Core_ImportFile_LineTooLong", "Error", "The record is longer than the limit of {limit} bytes",
    "The limit protects the service's memory. MAX_LINE_BYTES sets it.",
)  # fmt: skip
TOO_MANY_COLUMNS = _kind(
    "Core_ImportFile_TooManyColumns", "Error", "The line has {found} fields, more than the limit of {limit}",
    "The limit protects the service's memory. MAX_COLUMNS sets it.",
)  # fmt: skip
INVALID_LINE = _kind(
    "Core_ImportFile_InvalidLine", "Error", "The line cannot be read: {reason}",
    "The line is no valid line of the file's format.",
)  # fmt: skip
ERROR_CELL = _kind(
    "Core_ImportFile_ErrorCell", "Error", "The cell {cell} holds the error {value}",
    "A formula of the sheet has no result. An error is no value, and is never taken for an empty cell.",
)  # fmt: skip
NO_CACHED_VALUE = _kind(
    "Core_ImportFile_FormulaWithoutValue", "Error", "The cell {cell} holds a formula that was never calculated",
    "A sheet keeps each formula's last result, and that is read. A program that writes formulas without calculating them leaves none: open"
    " the file in a spreadsheet program and save it.",
)  # fmt: skip
MERGED_CELL = _kind(
    "Core_ImportFile_MergedCell", "Error", "The cell {cell} is merged into {region}, so it has no value of its own",
    "Only the first cell of a merged region holds a value. Whether the others are meant to be empty or to repeat it, nobody can say.",
)  # fmt: skip
INVALID_CELL = _kind(
    "Core_ImportFile_InvalidCell", "Error", "The cell {cell} cannot be read: '{value}' is not what its kind ('{kind_said}') or format says",
    "A number that is none, a date that is on no calendar (1900-02-29, or before the workbook's epoch), a shared text that is not there.",
)  # fmt: skip
INVALID_JSON_LINE = _kind(
    "Core_ImportFile_InvalidJson", "Error", "The record is no valid JSON: {reason}",
    "Each line of a JSON Lines file, and each element of a JSON array, is one JSON object without duplicate names, NaN or Infinity.",
)  # fmt: skip
NOT_AN_OBJECT = _kind(
    "Core_ImportFile_NotAnObject", "Error", "The record is {found}, not a JSON object",
    "Values are found by the names of an object's members, so that a record has to be an object.",
)  # fmt: skip
UNKNOWN_CONTROL = _kind(
    "Core_ImportFile_UnknownControlFile", "Error", "There is no control file named '{name}' (in the ! line {line})",
    "A `!` line of the multi-entity form names a control file that does not exist, or that the key may not use.",
)  # fmt: skip
UNKNOWN_ENTITY = _kind(
    "Core_ImportFile_UnknownEntity", "Error", "There is no entity '{name}' in the control file (known: {known})",
    "The first field of a line of the multi-entity form names the record's entity.",
)  # fmt: skip
UNKNOWN_ACTION = _kind(
    "Core_ImportFile_UnknownAction", "Error", "'{name}' is no action (allowed: Insert, Update, Delete, Merge)",
    "The second field of a line of the multi-entity form says what is to be done with the record.",
)  # fmt: skip
RECORD_UNFIT = _kind(
    "Core_ImportFile_InvalidRecord", "Error", "The record cannot be taken: {reason}",
    "A record of an entity collection has not the members that it should have, or names an entity, property or converter that the target's"
    " tables do not have, or that may mean several.",
)  # fmt: skip
NO_IDENTITY = _kind(
    "Core_Data_NoIdentity", "Error", "Nothing says which {entity} is meant, so it can only be inserted, not be found again ({action})",
    "Update, Delete and Merge find a row by the record's identity: an `id`, or else all columns of the table's key.",
)  # fmt: skip
INVALID_HEADER = _kind(
    "Core_ImportFile_InvalidHeader", "Error", "The header in line {line} cannot be used: {reason}",
    "The `#` line above the record names its columns, and one of the names is blank or stands twice.",
)  # fmt: skip
GROUP_ORDER = _kind(
    "Core_ImportFile_GroupOrder", "Error", "GroupOrder must be a number in an ordered import, not '{found}'",
    "In an ordered import every line of the multi-entity form has a number as its third field: smaller groups are taken first.",
)  # fmt: skip
