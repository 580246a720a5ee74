"""The shape of trying a control file on a sample: what is asked, and what is told."""

from marshmallow import Schema, fields, validate

from schemas.replies import SEVERITIES
from schemas.requests import Request, Text, about


class TrialRequest(Request):
    """The text fields beside the sample of `POST /api/controls/try`."""

    text = Text(load_default=None, metadata=about("The control file itself, or else"))
    control = Text(load_default=None, validate=validate.Length(min=1, max=200), metadata=about("the digest or name of one that is stored."))
    name = Text(
        load_default="", validate=validate.Length(max=255),
        metadata=about("Which of the control file's files the sample is; otherwise the one that it is called as, or the first."),
    )  # fmt: skip
    sample = Text(load_default="", metadata=about("The sample as text, where it is not sent as a file."))


class TriedCell(Schema):
    """What one column would get."""

    column = fields.String(required=True)
    value = fields.String(required=True, metadata=about("Its first 200 characters; empty where `means` tells something else."))
    means = fields.String(required=True, validate=validate.OneOf(("value", "null", "default", "kept", "masked", "fault", "later")))


class TriedFault(Schema):
    """What is wrong with a record, or worth saying of it."""

    code = fields.String(required=True)
    severity = fields.String(required=True, validate=validate.OneOf(SEVERITIES))
    message = fields.String(required=True)
    column = fields.String(required=True)
    value = fields.String(required=True)


class TriedRecord(Schema):
    """What one record of a sample would become."""

    line = fields.Integer(required=True)
    entity = fields.String(required=True)
    table = fields.String(required=True)
    action = fields.String(required=True)
    operation = fields.String(required=True, validate=validate.OneOf(("create", "update", "delete", "refuse", "skip", "read")))
    is_certain = fields.Boolean(required=True, metadata=about("False: an earlier record of the file may change it."))
    row = fields.String(required=True, metadata=about("What names the row that was found."))
    cells = fields.List(fields.Nested(TriedCell), required=True)
    faults = fields.List(fields.Nested(TriedFault), required=True)
    text = fields.String(required=True, metadata=about("The same in one line."))


class TrialReply(Schema):
    """What a sample would become."""

    name = fields.String(required=True, metadata=about("As which of the control file's files it was tried."))
    records = fields.List(fields.Nested(TriedRecord), required=True)
    warnings = fields.List(fields.String(), required=True)
    is_whole = fields.Boolean(required=True, metadata=about("False: there are more records behind these."))
