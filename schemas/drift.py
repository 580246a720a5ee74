"""The shape of what is told of control files and the tables that they were made for."""

from marshmallow import Schema, fields, validate

from schemas.replies import Moment, ProblemDetail
from schemas.requests import about

WORDS = ("ok", "changed", "broken")


class TableChange(Schema):
    """One thing of a table that is not as it was."""

    table = fields.String(required=True)
    column = fields.String(required=True, metadata=about("Empty where it is the whole table."))
    what = fields.String(required=True, validate=validate.OneOf(("table_gone", "column_gone", "type_changed", "column_required")))
    was = fields.String(required=True, metadata=about("The type that it had."))
    now = fields.String(required=True, metadata=about("The type that it has."))


class ControlStanding(Schema):
    """How a named control file stands to the target."""

    name = fields.String(required=True)
    digest = fields.String(required=True)
    state = fields.String(validate=validate.OneOf(WORDS), metadata=about("`broken`: it would be refused now."))
    checked_at = Moment(required=True, allow_none=True, metadata=about("When it was last checked; changes are those since."))
    faults = fields.List(fields.Nested(ProblemDetail), required=True)
    changes = fields.List(fields.Nested(TableChange), required=True)


class DriftReply(Schema):
    """How control files stand to the target."""

    controls = fields.List(fields.Nested(ControlStanding), required=True)
    is_whole = fields.Boolean(required=True, metadata=about("False: there are more, for which there was no time."))
