"""On Key's imports: entity collections, CSV files that name import schemas, and how their import stands.

An import file is a batch, an import schema a control file (see onkey_schemas.py). Tenant and connection are passed over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flask import Response, request
from flask.typing import ResponseReturnValue
from marshmallow import fields as kinds, validate

from catalog.batches import Batch, Execution, Options
from catalog.submit import Submission, submit
from engine.plan import POSITIONAL
from errors import Problem, Refusal
from routes import download, parts, replies
from routes.auth import caller, requires, visible_batch
from routes.compat import onkey_replies as said, onkey_schemas, system
from routes.control import kept_control
from routes.idempotency import held, once
from routes.imports import collection_control
from routes.receipts import rows_of, stream
from routes.schedule import announce
from routes.status import settled_batch
from routes.upload import Upload, receive_body, receive_form
from schemas.requests import COLLECTION_TYPE, EXECUTIONS, ForeignRequest, Text

PREFIX = "/api/tenants/<client>/<connection>/modules/system/imports"
routes = system.blueprint("onkey", PREFIX, said.refuse)
routes.register_blueprint(onkey_schemas.routes)

CSV_TYPE = "text/csv"
SCHEMALESS = b"""\
# For files whose rows name an import schema themselves.
files:
  DEFAULT: {read: collection}
"""


class _Query(ForeignRequest):
    mode = kinds.String(load_default="AllOrNone", validate=validate.OneOf(EXECUTIONS))
    is_ordered = kinds.Boolean(data_key="ordered", load_default=False)


class _Upload(ForeignRequest):
    execution = kinds.String(data_key="executionMode", load_default="AllOrNone", validate=validate.OneOf(EXECUTIONS))
    is_ordered = kinds.Boolean(data_key="orderedImport", load_default=False)
    description = Text(load_default="", validate=validate.Length(max=2000))
    schema_id = Text(data_key="importSchemaId", load_default=None)


@routes.url_value_preprocessor
def drop_names(_endpoint: str | None, values: dict[str, Any] | None) -> None:
    """Take the names of tenant and connection away: no route needs them."""
    for name in ("client", "connection"):
        (values or {}).pop(name, None)


@routes.route("", methods=["POST", "PATCH"])
@requires("import")
def import_records() -> ResponseReturnValue:
    """Import an entity collection, or CSV; reply with a message for every record."""
    if request.mimetype == CSV_TYPE:
        return _imported(lambda: kept_control(SCHEMALESS).digest, "Import.csv", POSITIONAL)
    if request.mimetype != COLLECTION_TYPE:
        problem = Problem("The body's type.", "Content-Type", allowed=(COLLECTION_TYPE, CSV_TYPE))
        raise Refusal(415, "body_unknown", "A body of this type is not read here.", [problem])
    return _imported(collection_control, "records.json", None)


@routes.post("/files")
@requires("import")
def import_csv() -> ResponseReturnValue:
    """Import CSV; reply with a message for every line that has a result."""
    if request.mimetype != CSV_TYPE:
        raise Refusal(415, "body_unknown", "CSV is expected here.", [Problem("The body's type.", "Content-Type", allowed=(CSV_TYPE,))])
    return _imported(lambda: kept_control(SCHEMALESS).digest, "Import.csv", POSITIONAL)


def _imported(control_of: Callable[[], str], name: str, form: str | None) -> ResponseReturnValue:
    given = system.of_query(_Query())
    refuse_limited()
    if not caller().can("read"):
        raise Refusal(403, "permission_missing", "The messages can be read only by a key with the permission read.")
    wired = parts()
    with receive_body(request, wired.spool, wired.settings.max_upload_bytes) as upload:
        assert upload.receiver is not None  # noqa: S101 - a body is always received
        upload.check()
        told = [upload.receiver.digest, request.mimetype, *map(str, given.values())]
        options = Options(execution=Execution(given["mode"]), is_ordered=given["is_ordered"])
        accepted = once(told, lambda: _begun(upload, control_of(), name, form, options))
        assert isinstance(accepted, Response)  # noqa: S101 - _begun makes one
    batch = settled_batch(accepted.headers["OnKey-Resource-Id"], wired.settings.wait_cap_seconds)
    if not batch.state.is_over:
        return accepted
    reply = stream(batch, said.messages(rows_of(batch), form is None), said.NOTIFICATION, "messages.json")
    del reply.headers["Content-Disposition"]
    return said.with_id(reply, batch.id)


def refuse_limited() -> None:
    """Refuse a key that may use some control files only: here records and rows name tables themselves."""
    if caller().control_names is not None:
        raise Refusal(403, "key_limited", "This key is limited to some control files, so it may not name tables itself.")


def _begun(
    upload: Upload, control: str, name: str, form: str | None, options: Options, comment: str = "", schema: int | None = None
) -> Response:
    """Make a batch of what was sent and put it into the queue; reply with the import file."""
    assert upload.receiver is not None  # noqa: S101 - the callers see to it
    digest, size = upload.receiver.commit()
    shown = download.display_name(upload.file_name) or name
    sent = Submission(
        control=control, key_id=caller().id, name=name, digest=digest, size=size, uploaded_as=shown, format=form, comment=comment,
        file_name=shown, schema_id=schema,
    )  # fmt: skip
    batch_id = submit(parts().catalog, sent, options, onkey_schemas.tables_of(control), held=held())
    reply = replies.json(_import_file(visible_batch(str(batch_id))), 202, said.ENTITY)
    announce(batch_id, options, reply)
    return said.with_id(reply, batch_id)


@routes.post("/files/upload")
@requires("import")
def upload_file() -> ResponseReturnValue:
    """Store an import file and import it in the background; the reply names it."""
    refuse_limited()
    wired = parts()
    with receive_form(request, wired.spool, wired.settings.max_upload_bytes) as upload:
        if upload.receiver is None:
            raise Refusal(400, "request_invalid", "There is no file.", [Problem("Send it as the part `file`.", "file")])
        upload.check()
        given = system.of_query(_Upload(), upload.fields)
        schema = onkey_schemas.schema_of(given["schema_id"]) if given["schema_id"] else None
        options = Options(execution=Execution(given["execution"]), is_ordered=given["is_ordered"])
        name = download.display_name(upload.file_name) or "Import.csv"
        told = [upload.receiver.digest, name, *map(str, given.values())]
        return once(
            told,
            lambda: _begun(
                upload, schema.control() if schema else kept_control(SCHEMALESS).digest, name, POSITIONAL, options, given["description"],
                schema.id if schema else None,
            ),
        )  # fmt: skip


@routes.get("/files/<batch>")
@requires("read")
def get_file(batch: str) -> ResponseReturnValue:
    """Tell how the import of a file stands."""
    return replies.json(_import_file(visible_batch(batch)), content_type=said.ENTITY)


@routes.get("/files/<batch>/results/download")
@requires("read")
def download_results(batch: str) -> ResponseReturnValue:
    """Give the result of every line, as CSV."""
    found = visible_batch(batch)
    return stream(found, said.six_columns(rows_of(found)), "text/csv; charset=utf-8", f"results-{found.id}.csv")


@routes.get("/files/<batch>/results")
@requires("read")
def get_results(batch: str) -> ResponseReturnValue:
    """Give the result of every line, as resources."""
    found = visible_batch(batch)
    reply = stream(found, said.items(rows_of(found)), said.COLLECTION, "results.json")
    del reply.headers["Content-Disposition"]
    return reply


def _import_file(batch: Batch) -> dict[str, Any]:
    schema = onkey_schemas.named(batch.schema_id)
    options = batch.run.options if batch.run else Options()
    properties = said.made(batch.key_id, batch.created_at, batch.completed_at or batch.started_at or batch.created_at) | {
        "backgroundTaskId": batch.id,
        "backgroundTaskName": f"Import File - {batch.comment or batch.file_name}",
        "backgroundTaskStartedOn": said.instant(batch.started_at),
        "backgroundTaskStatus": batch.state.title(),
        "backgroundTaskFailedSteps": batch.counts.errors,
        "description": batch.comment,
        "executionMode": options.execution,
        "fileContent": None,
        "fileName": batch.file_name,
        "fileResults": None,
        "importSchemaId": batch.schema_id,
        "importSchemaName": schema.name if schema else None,
        "importSchemaDescription": schema.description if schema else None,
        "orderedImport": options.is_ordered,
    }
    return said.resource("ImportFile", batch.id, 1, properties)
