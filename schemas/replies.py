"""The shape of replies: what a batch's status shows, and under which names."""

from datetime import UTC, datetime
from typing import Any

from marshmallow import Schema, fields


class Moment(fields.Field[datetime]):
    """An instant, as RFC 3339 with `Z`."""

    def _serialize(self, value: datetime | None, attr: str | None, obj: Any, **kwargs: Any) -> str | None:
        return None if value is None else value.astimezone(UTC).isoformat().replace("+00:00", "Z")


class Rounded(fields.Float):
    """A number of which only some digits say anything."""

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> float | None:
        return None if value is None else round(float(value), 4 if value < 1 else 1)


class FileReply(Schema):
    """One named file of a batch."""

    name = fields.String()
    digest = fields.String()
    size = fields.Integer()


class BatchReply(Schema):
    """A batch as lists show it."""

    id = fields.Integer()
    control = fields.String()
    comment = fields.String()
    fileName = fields.String(attribute="file_name")
    creationPath = fields.String(attribute="creation_path")
    key = fields.String(attribute="key_id")
    state = fields.String()
    mode = fields.String()
    execution = fields.String(attribute="run.options.execution", dump_default=None)
    ordered = fields.Boolean(attribute="run.options.is_ordered", dump_default=None)
    status_msg = fields.String()
    code = fields.String()
    input_count = fields.Integer(attribute="counts.input")
    success_count = fields.Integer(attribute="counts.success")
    created_count = fields.Integer(attribute="counts.created")
    updated_count = fields.Integer(attribute="counts.updated")
    deleted_count = fields.Integer(attribute="counts.deleted")
    skip_count = fields.Integer(attribute="counts.skipped")
    error_count = fields.Integer(attribute="counts.errors")
    unprocessed_count = fields.Integer(attribute="counts.unprocessed")
    progress = Rounded()
    rows_per_second = Rounded()
    eta_seconds = Rounded()
    created_at = Moment()
    scheduled_at = Moment(attribute="run.scheduled_at", dump_default=None)
    started_at = Moment()
    completed_at = Moment()
