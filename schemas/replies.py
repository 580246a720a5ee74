"""The shape of replies: what each tells in JSON, and under which names."""

from datetime import UTC, datetime
from typing import Any

from marshmallow import Schema, fields, validate

from schemas.requests import EXECUTIONS, FORMATS, MODES, STATES, about

SEVERITIES = ("Information", "Warning", "Error")


class Moment(fields.Field[datetime]):
    """An instant, as RFC 3339 with `Z`."""

    def _serialize(self, value: datetime | None, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        return None if value is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Rounded(fields.Float):
    """A number of which only some digits say anything."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> float | None:
        return None if value is None else round(float(value), 4 if value < 1 else 1)


def _digest() -> fields.String:
    return fields.String(required=True, validate=validate.Regexp(r"[0-9a-f]{64}\Z"), metadata=about("SHA-256, in hexadecimal digits."))


def _word(*allowed: str, **options: Any) -> fields.String:
    return fields.String(validate=validate.OneOf(allowed), **options)


def _integer(**options: Any) -> fields.Integer:
    return fields.Integer(required=True, **options)


def _text(**options: Any) -> fields.String:
    return fields.String(required=True, **options)


class FileReply(Schema):
    """One named file of a batch."""

    name = _text()
    digest = _digest()
    size = _integer(metadata=about("Bytes."))


class BatchReply(Schema):
    """A batch as lists show it."""

    id = _integer()
    control = _digest()
    comment = _text()
    fileName = _text(attribute="file_name")
    creationPath = _text(attribute="creation_path")
    key = _text(attribute="key_id")
    state = _word(*STATES, required=True)
    mode = _word(*MODES, required=True, allow_none=True)
    execution = _word(*EXECUTIONS, required=True, allow_none=True, attribute="run.options.execution", dump_default=None)
    ordered = fields.Boolean(required=True, allow_none=True, attribute="run.options.is_ordered", dump_default=None)
    status_msg = _text(allow_none=True)
    code = _text(allow_none=True, metadata=about("A stable word for why a run failed."))
    input_count = _integer(attribute="counts.input")
    success_count = _integer(attribute="counts.success", metadata=about("Created, updated and deleted."))
    created_count = _integer(attribute="counts.created")
    updated_count = _integer(attribute="counts.updated")
    deleted_count = _integer(attribute="counts.deleted")
    skip_count = _integer(attribute="counts.skipped")
    error_count = _integer(attribute="counts.errors")
    unprocessed_count = _integer(attribute="counts.unprocessed")
    progress = Rounded(required=True, allow_none=True, validate=validate.Range(min=0, max=1))
    rows_per_second = Rounded(required=True, allow_none=True)
    eta_seconds = Rounded(required=True, allow_none=True)
    created_at = Moment(required=True)
    scheduled_at = Moment(required=True, allow_none=True, attribute="run.scheduled_at", dump_default=None)
    started_at = Moment(required=True, allow_none=True)
    completed_at = Moment(required=True, allow_none=True)


class HandleReply(Schema):
    """A file that was sent by a handle."""

    handle = _text()
    digest = _digest()
    size = _integer(metadata=about("Bytes."))
    directory = _text(allow_none=True)
    name = _text()
    created_at = Moment(required=True)
    expires_at = Moment(required=True, allow_none=True)


class PartReply(Schema):
    """A part of a file that was sent by a handle."""

    handle = _text()
    received = _integer(metadata=about("How many bytes have come."))


class HandlesReply(Schema):
    """Files that were sent by handles."""

    handles = fields.List(fields.Nested(HandleReply), required=True)
    after = _text(allow_none=True, metadata=about("`after` of the next page."))


class ErrorReply(Schema):
    """One of a batch's first errors."""

    id = _integer(metadata=about("The error's number."))
    message = _text()
    data_row = fields.Dict(required=True, metadata=about("The values at fault by column."))
    line = _integer()
    column = _text(allow_none=True)
    code = _text()
    file = _text()


class StatusReply(BatchReply):
    """How a batch stands."""

    files = fields.List(fields.Nested(FileReply), required=True)
    errors = fields.List(fields.Nested(ErrorReply), metadata=about("With `include_errors`."))


class BatchesReply(Schema):
    """A page of batches."""

    batches = fields.List(fields.Nested(BatchReply), required=True)
    next = _text(allow_none=True, metadata=about("`cursor` of the next page."))


class BatchMade(Schema):
    """A batch that was made."""

    batch = _integer()
    control = _digest()


class CancelReply(Schema):
    """What becomes of a batch that is to stop."""

    status = _word("CANCELLED", "CANCELLING", required=True)
    batch = _integer()


class ControlStored(Schema):
    """A control file that was stored."""

    digest = _digest()
    names = fields.List(fields.String(), required=True, metadata=about("The names that point to it from now on."))


class ControlName(Schema):
    """A name of a control file."""

    name = _text()
    digest = _digest()
    moved_at = Moment(required=True)


class ControlUpload(Schema):
    """A control file that was uploaded."""

    digest = _digest()
    comment = _text()
    created_at = Moment(required=True)


class ControlsReply(Schema):
    """All names of control files, and all that were uploaded."""

    controls = fields.List(fields.Nested(ControlName), required=True)
    uploads = fields.List(fields.Nested(ControlUpload), required=True, metadata=about("Newest first."))


class FileAttached(Schema):
    """A file that a batch was given."""

    digest = _digest()
    size = _integer(metadata=about("Bytes."))
    batch = _integer()
    name = _text()
    attached = _word("added", "repeated", "replaced", required=True)


class FileStored(Schema):
    """A file that was stored."""

    digest = _digest()
    size = _integer(metadata=about("Bytes."))


class FileKnown(Schema):
    """What is known of a file."""

    digest = _digest()
    size = _integer(metadata=about("Bytes."))
    names = fields.List(fields.String(), required=True)
    created_at = Moment(required=True)
    batches = fields.List(fields.Integer(), required=True)


class UploadMade(Schema):
    """An upload in parts that was begun."""

    upload = _text()
    length = _integer(metadata=about("Bytes."))


class ScheduledReply(Schema):
    """A batch in the queue."""

    status = _word("SCHEDULED", required=True)
    batch = _integer()
    run = _integer()
    mode = _word(*MODES, required=True)


class Links(Schema):
    """Where a batch is looked at."""

    status = _text()
    results = _text()
    errors = _text()
    cancel = _text()


class ImportAccepted(Schema):
    """An import that was put into the queue."""

    batch = _integer()
    control = _digest()
    digest = _digest()
    name = _text()
    mode = _word(*MODES, required=True)
    links = fields.Nested(Links, required=True)


class ResultReply(Schema):
    """What became of a record."""

    code = _text()
    message = _text()
    severity = _word(*SEVERITIES, required=True)
    line = _integer()
    properties = fields.Dict(
        required=True,
        metadata=about(
            "The values at fault by column; of a row that a dry run would update, in `changed`, by column its `old` and `new` value, and "
            "in `changedBesides` how many columns more there are."
        ),
    )
    entity_id = _text(allow_none=True)
    file = _text()


class FirstResults(Schema):
    """The first results of a run."""

    items = fields.List(fields.Nested(ResultReply), required=True)
    next = _integer(allow_none=True, metadata=about("`cursor` of the next page."))


class ResultsReply(FirstResults):
    """A page of results."""

    batch = _integer()
    run = _word(*MODES, required=True)


class ImportSettled(StatusReply):
    """An import that is over, to a key that may read."""

    results = fields.Nested(FirstResults, required=True)


class ImportLine(Schema):
    """An import that is over, to a key that may not read."""

    batch = _integer()
    status = _text()


class Place(Schema):
    """A line of a file."""

    file = _text()
    line = _integer()


class ErrorGroup(Schema):
    """Errors that are alike."""

    code = _text()
    column = _text()
    value = _text()
    count = _integer()
    example = _text()
    lines = fields.List(fields.Nested(Place), required=True)


class ErrorsReply(Schema):
    """The errors of a run, rolled up."""

    batch = _integer()
    run = _word(*MODES, required=True)
    errors = _integer()
    groups = fields.List(fields.Nested(ErrorGroup), required=True)


class MissingValue(Schema):
    """What records refer to and is not there."""

    entity = _text()
    column = _text()
    value = _text()
    count = _integer()
    nearest = _text(allow_none=True, metadata=about("The existing key most like it."))
    lines = fields.List(fields.Nested(Place), required=True)


class MissingReply(Schema):
    """All that records refer to and is not there."""

    batch = _integer()
    run = _word(*MODES, required=True)
    missing = fields.List(fields.Nested(MissingValue), required=True)
    records_left_out = _integer()


class LimitsReply(Schema):
    """How large files may be, how they may come, and how long replies are waited for."""

    max_upload_bytes = _integer()
    max_control_bytes = _integer()
    max_field_chars = _integer()
    max_columns = _integer()
    max_line_bytes = _integer()
    max_expansion_ratio = _integer()
    max_expanded_bytes = _integer()
    chunk_records = _integer()
    chunk_bytes = _integer()
    wait_cap_seconds = fields.Float(required=True)
    idempotency_hours = _integer()
    formats = fields.List(_word(*FORMATS), required=True)
    compressions = fields.List(_word("gz", "zst"), required=True)


class AliveReply(Schema):
    """The process is alive."""

    status = _word("ok", required=True)


class ReadyReply(Schema):
    """Whether each part works."""

    ready = fields.Boolean(required=True)
    parts = fields.Dict(keys=fields.String(), values=fields.String(), required=True)


class ProblemDetail(Schema):
    """One thing that is wrong with a request."""

    message = _text()
    path = _text(metadata=about("A field's name, or a path in a control file; empty where it is the whole."))
    line = _integer(allow_none=True)
    allowed = fields.List(fields.String(), required=True)


class Problem(Schema):
    """A refusal, as RFC 9457 has it."""

    type = _text()
    title = _text()
    status = _integer()
    detail = _text()
    code = _text(metadata=about("A stable word."))
    errors = fields.List(fields.Nested(ProblemDetail), required=True)
