"""The shape of mail addresses for batches that name none."""

from marshmallow import Schema, fields, validate

from schemas.replies import Moment
from schemas.requests import Addresses, Request, Text, about


class AddressesRequest(Request):
    """The fields of `POST /api/addresses`."""

    control = Text(
        load_default="", validate=validate.Length(max=200),
        metadata=about("The name of a control file; without one, they are for all that have no addresses of their own."),
    )  # fmt: skip
    success = Addresses(
        data_key="sendSuccessEmailTo", load_default=list, metadata=about("Mail addresses, with commas between; none: nobody is told.")
    )
    failure = Addresses(
        data_key="sendFailureEmailTo", load_default=list, metadata=about("Mail addresses, with commas between; none: nobody is told.")
    )


class TestMailRequest(Request):
    """The fields of `POST /api/addresses/test`."""

    to = Addresses(required=True, metadata=about("Mail addresses, with commas between."))


class DefaultsReply(Schema):
    """The addresses of one control file, or of all others."""

    control = fields.String(required=True, metadata=about("Empty: those of all that have none of their own."))
    sendSuccessEmailTo = fields.List(fields.String(), required=True, attribute="success")
    sendFailureEmailTo = fields.List(fields.String(), required=True, attribute="failure")
    changed_at = Moment(required=True)


class AddressesReply(Schema):
    """All of them."""

    addresses = fields.List(fields.Nested(DefaultsReply), required=True)


class AddressesSet(Schema):
    """What was done."""

    control = fields.String(required=True)
    state = fields.String(required=True, validate=validate.OneOf(("SET", "REMOVED")))


class TestMailReply(Schema):
    """The mail server took the mail."""

    state = fields.String(required=True, validate=validate.OneOf(("SENT",)))
