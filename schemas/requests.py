"""The shape of requests: which fields there are, and what each may hold. Meaning and state are the routes' and the catalog's business."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from marshmallow import EXCLUDE, RAISE, Schema, ValidationError, fields, post_load, pre_load, validate

from errors import Problem, Refusal

MODES = ("dry-run", "import")
EXECUTIONS = ("PerRecord", "AllOrNone")
WHEN_BUSY = ("queue", "refuse")
FORMATS = ("csv", "tsv", "jsonl", "json", "xlsx")
COLLECTION_TYPE = "application/vnd.onkey.entityimportcollection+json"
STATES = ("uploading", "scheduled", "running", "held", "completed", "failed", "cancelled")

CURSOR = r"[0-9]{1,17}-[0-9]{1,16}\Z"  # of a list of batches: the microseconds of a batch's making, and its identifier
_PLAIN = re.compile(r"[!-~]+")  # printable ASCII without blanks
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


class Text(fields.String):
    """Text that every database can hold: no NUL, no lone surrogate."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        text: str = super()._deserialize(value, attr, data, **kwargs)
        if "\0" in text or (not text.isprintable() and any("\ud800" <= c <= "\udfff" for c in text)):
            raise ValidationError("Not a valid text: it holds a NUL or a lone surrogate.")
        return text


class BatchId(Text):
    """A batch's identifier; whether it is one, and whose, is seen where the batch is looked for. A JSON number stands for its digits."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        is_whole = type(value) is int or (isinstance(value, float) and value.is_integer())
        return super()._deserialize(str(int(value)) if is_whole else value, attr, data, **kwargs)


class Instant(fields.Field[datetime]):
    """An instant as RFC 3339 writes it; one without a zone is refused, because nothing is guessed."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> datetime:
        try:
            if isinstance(value, str) and _RFC3339.fullmatch(value):
                return datetime.fromisoformat(value).astimezone(UTC)
        except (ValueError, OverflowError):
            pass  # A day that there is none of, such as 30 February, or none in UTC: refused below like any other text.
        raise ValidationError("Not an RFC 3339 instant with its zone, such as 2026-11-21T02:00:00Z (in a query string, write + as %2B).")


class Addresses(fields.Field[list[str]]):
    """One mail address, or several with commas between them."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> list[str]:
        if not isinstance(value, str) or len(value) > 1000:
            raise ValidationError("Not a text of mail addresses, with commas between them, of at most 1000 characters.")
        addresses = [a.strip() for a in value.split(",")]
        for address in addresses:
            try:
                validate.Email()(address)
            except ValidationError:
                # Said here, not by the validator: it takes its message for a format, in which braces of the caller's would be fields.
                raise ValidationError(f"Not a mail address: {address[:80]!r}.") from None
            # A quoted part may hold what no header should; and not every server takes other letters.
            if not _PLAIN.fullmatch(address):
                raise ValidationError(f"Not a plain mail address (of an international domain, write the xn-- form): {address[:80]!r}.")
        return list(dict.fromkeys(addresses))


class Request(Schema):
    """The base of all: a field that is not known is a fault, never passed over."""

    class Meta:
        """Refuse unknown fields."""

        unknown = RAISE


class ForeignRequest(Request):
    """The base of requests as other systems' clients send them: unknown fields are passed over, and empty ones count as absent."""

    class Meta(Request.Meta):
        """Pass over unknown fields."""

        unknown = EXCLUDE

    @pre_load
    def without_empty(self, data: Mapping[str, Any], **_kwargs: Any) -> dict[str, Any]:
        """Leave out fields without a value."""
        return {name: value for name, value in data.items() if value != ""}


def about(description: str) -> dict[str, Any]:
    """Say what a field is for, in the words of the API's description."""
    return {"description": description}


def choice(*allowed: str, description: str, **kwargs: Any) -> fields.String:
    """Make a field that takes one of a few words."""
    return fields.String(validate=validate.OneOf(allowed), metadata=about(description), **kwargs)


def _wait(description: str) -> fields.Float:
    return fields.Float(load_default=0.0, validate=validate.Range(min=0), metadata=about(description))


def sha256() -> Text:
    """Make the field that says which digest the bytes must have."""
    return Text(
        load_default=None, validate=validate.Regexp(r"[0-9a-fA-F]{64}\Z", error="Not 64 hexadecimal digits."),
        metadata=about("The SHA-256 digest that the file must have."),
    )  # fmt: skip


class ControlRequest(Request):
    """The text fields beside the file of `POST /api/control`."""

    comment = Text(load_default="", validate=validate.Length(max=2000), metadata=about("For people."))
    name = Text(
        load_default=None, validate=validate.Length(min=1, max=200),
        metadata=about("A name that from now on points to this file; the file's own `name` does so too."),
    )  # fmt: skip
    sha256 = sha256()


class BatchRequest(Request):
    """The fields of `POST /api/batch`."""

    control = Text(
        required=True,
        validate=validate.Length(min=1, max=200),
        metadata=about("Digest or name of a control file; names are looked up now."),
    )
    comment = Text(load_default="", validate=validate.Length(max=2000), metadata=about("For people."))
    file_name = Text(data_key="fileName", load_default="", validate=validate.Length(max=255), metadata=about("For people."))
    creation_path = Text(
        data_key="creationPath", load_default="", metadata=about("Which system sends it."),
        validate=validate.Regexp(r"[A-Z0-9_]{1,15}\Z|\Z", error="Not 1 to 15 upper-case letters, digits and underscores."),
    )  # fmt: skip
    send_success_email_to = Addresses(
        data_key="sendSuccessEmailTo", load_default=list, metadata=about("Mail addresses, with commas between.")
    )
    send_failure_email_to = Addresses(
        data_key="sendFailureEmailTo", load_default=list, metadata=about("Mail addresses, with commas between.")
    )


class ScheduleRequest(Request):
    """The fields of `POST /api/schedule`."""

    batch = BatchId(required=True, metadata=about("The batch."))
    mode = choice(*MODES, load_default="import", description="The real run, or one that is rolled back at its end.")
    execution = choice(
        *EXECUTIONS, load_default="PerRecord", description="Whether one refused record leaves the others alone, or nothing is kept then."
    )
    is_ordered = fields.Boolean(
        data_key="ordered", load_default=False, metadata=about("Whether records with a smaller `GroupOrder` come first.")
    )
    has_event_handlers = fields.Boolean(
        data_key="withEventHandlers", load_default=False,
        metadata=about("Whether webhooks are told of each record that is created, updated or deleted."),
    )  # fmt: skip
    when_busy = choice(
        *WHEN_BUSY, data_key="whenBusy", load_default="queue",
        description="Whether to wait, or to be refused with 409, where another batch writes one of the tables or waits to.",
    )  # fmt: skip
    start_at = Instant(data_key="at", load_default=None, metadata=about("Not to start before this instant."))
    wait = _wait("Reply only when the run is over, or after so many seconds.")


class ImportRequest(BatchRequest, ScheduleRequest):
    """The fields of `POST /api/import/<control>`: what the four steps take, and how the file is read."""

    class Meta(Request.Meta):
        """Leave out what names things that are made here."""

        exclude: tuple[str, ...] = ("batch", "control")

    name = Text(
        load_default=None, validate=validate.Length(min=1, max=255), metadata=about("Which of the control file's files the data is.")
    )
    format = choice(
        *FORMATS, load_default=None, description="How the data is read; otherwise its `Content-Type`, or the control file, says it."
    )
    separator = Text(
        load_default=None, validate=validate.Length(equal=1), metadata=about("The character that separates fields, where it is another.")
    )
    handle = Text(load_default=None, metadata=about("Of a file that was sent by it before; there is no body then."))
    sha256 = sha256()
    fail = choice("rows", load_default=None, description="Status 422 where records were refused.")


class CollectionRequest(ImportRequest):
    """The fields of `POST /api/import`; its `mode` may also be a word of `execution`, as senders of entity collections know it."""

    class Meta(ImportRequest.Meta):
        """Leave out what would say how the records are read: they say it themselves."""

        exclude = (*ImportRequest.Meta.exclude, "format", "separator", "name", "handle")

    mode = choice(*MODES, *EXECUTIONS, load_default="import", description="As everywhere; or, with a word of `execution`, that.")

    @post_load
    def tell_mode_from_execution(self, data: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Give every field of an import."""
        if data["mode"] in EXECUTIONS:
            data |= {"mode": "import", "execution": data["mode"]}
        return {"format": None, "separator": None, "name": None, "handle": None, **data}


class StatusQuery(Request):
    """The query string of `GET /api/batch/<id>`."""

    wait = _wait("Seconds to wait for the end.")
    include_errors = fields.Boolean(load_default=False, metadata=about("Tell the first errors, in JSON."))
    max_errors = fields.Integer(load_default=100, validate=validate.Range(min=1, max=1000), metadata=about("How many errors."))
    run = choice(*MODES, load_default=None, description="The last run of this mode, instead of the last one.")
    fail = choice("rows", load_default=None, description="Status 422 where records were refused.")


class BatchesQuery(Request):
    """The query string of `GET /api/batches`."""

    state = choice(*STATES, load_default=None, description="Only batches in this state.")
    control = Text(load_default=None, metadata=about("Only batches of this control file: its digest or name."))
    creation_path = Text(data_key="creationPath", load_default=None, metadata=about("Only batches with this `creationPath`."))
    since = Instant(load_default=None, metadata=about("Only batches made at this instant or later."))
    key = Text(load_default=None, metadata=about("Only batches of the key with this id."))
    cursor = Text(
        load_default=None,
        validate=validate.Regexp(CURSOR, error="Take `next` of the page before."),
        metadata=about("`next` of the page before."),
    )
    limit = fields.Integer(load_default=50, validate=validate.Range(min=1, max=200), metadata=about("How many batches."))


class NoFields(Request):
    """A request that takes no field."""


def check(schema: Schema, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the given fields, typed and with their defaults; a Refusal 400 with everything wrong with them at once."""
    try:
        checked: dict[str, Any] = schema.load(given)
    except ValidationError as error:
        raise Refusal(400, "request_invalid", "The request cannot be carried out as it stands.", list(_problems(schema, error))) from None
    return checked


def _problems(schema: Schema, error: ValidationError) -> Iterator[Problem]:
    known = {field.data_key or name: field for name, field in schema.fields.items()}
    for name, messages in error.normalized_messages().items():
        if name not in known:
            yield Problem("No such field.", str(name)[:80], allowed=tuple(known))
            continue
        allowed = tuple(choice for v in known[name].validators if isinstance(v, validate.OneOf) for choice in v.choices)
        for message in messages if isinstance(messages, list) else [str(messages)]:
            yield Problem("Not an allowed value." if allowed and message.startswith("Must be one of") else message, name, allowed=allowed)
