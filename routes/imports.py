"""An import in one call: control file, batch, file and schedule at once, and the results, if they are waited for."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from flask import Blueprint, Response, g, make_response, request
from flask.typing import ResponseReturnValue

from catalog.batches import Batch, Mode, Options
from catalog.handles import Handle
from catalog.submit import Submission, submit
from engine.readers import FORMATS
from engine.readers.bytestream import bare_name
from errors import DigestMismatch, Problem, Refusal
from routes import download, fields, parts, replies
from routes.auth import caller, requires
from routes.batch import addresses_of
from routes.control import kept_control, usable_control
from routes.described import BYTES, CSV, TEXT, Reply, described
from routes.handle import known
from routes.idempotency import held, once
from routes.limits import refuse_writes
from routes.results import first_page, whole_log
from routes.schedule import announce, options_of, refuse_missing
from routes.status import details, import_exit, line_of, settled_batch
from routes.upload import HEAD_BYTES, Upload, receive
from schemas import control as control_files
from schemas.replies import ImportAccepted, ImportLine, ImportSettled
from schemas.requests import COLLECTION_TYPE, CollectionRequest, ImportRequest, check

routes = Blueprint("imports", __name__, url_prefix="/api")

_BY_TYPE = {
    "text/csv": "csv", "application/csv": "csv", "text/tab-separated-values": "tsv", "application/jsonl": "jsonl",
    "application/x-ndjson": "jsonl", "application/jsonlines": "jsonl", "application/x-jsonlines": "jsonl", "application/json": "json",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}  # fmt: skip
_SETTLED = Reply(
    (ImportSettled, ImportLine),
    types=(CSV, TEXT),
    says=("Import-Exit", "Location", "Queue-Delayed"),
    description="The import is over: its results.",
)
COLLECTIONS = b"""\
# For entity collections, whose records name the tables of the target themselves.
files:
  records.json: {read: collection}
"""
_WAIT = re.compile(r"(?:^|[,;])\s*wait\s*=\s*\"?([0-9]{1,6})\"?\s*(?=$|[,;])", re.IGNORECASE)
_ASYNC = re.compile(r"(?:^|[,;])\s*respond-async\s*(?=$|[,;])", re.IGNORECASE)
_IMPORT = ImportRequest()  # made once: marshmallow copies every field for each instance
_NOT_OF_THE_IMPORT = ("wait", "fail")  # how the reply is wanted; a repeated request may want it otherwise


@dataclass(frozen=True, slots=True)
class Source:
    """Where an import's data come from."""

    commit: Callable[[], tuple[str, int]]  # sees to it that the spool has them, and tells their digest and size
    name: str  # as the client calls them: good for display, and for how they are packed
    format: str | None  # how they are read, as far as what they came with says
    handle: str | None = None  # by which the key knows them, if they were sent so
    looks_like: Callable[[], str | None] = lambda: None  # a guess at how they are read, for who is told nothing else
    is_title: bool = False  # what it is called is no file's name


@dataclass(frozen=True, slots=True)
class Started:
    """A batch that was made of an import's data, and put into the queue."""

    batch: int
    control: str  # digest
    digest: str
    name: str  # by which the control file knows the data
    read: str  # as what they are read: csv, json...
    options: Options


@routes.route("/import/<digest_or_name>", methods=["POST", "PUT"])
@requires("import")
@described(
    query=ImportRequest, takes=(*_BY_TYPE, BYTES, "multipart/form-data"),
    headers=("Idempotency-Key", "Content-Digest", "Repr-Digest", "Prefer"),
    refuses=(404, 409, 410, 422, 507),
    replies={200: _SETTLED, 202: Reply(ImportAccepted, says=("Location", "Queue-Delayed")), 422: _SETTLED},
)  # fmt: skip
def import_data(digest_or_name: str) -> ResponseReturnValue:
    """Import the body, a form's file, or what a handle knows; reply with the batch, or with its results if they are waited for."""
    accepted, given = _known(digest_or_name) if "handle" in request.args else _taken(_IMPORT, lambda: digest_or_name)
    return _waited(accepted, given)


@routes.post("/import")
@requires("import")
@described(
    query=CollectionRequest, takes=(COLLECTION_TYPE,), headers=("Idempotency-Key", "Content-Digest", "Repr-Digest", "Prefer"),
    refuses=(409, 415, 422, 507),
    replies={200: _SETTLED, 202: Reply(ImportAccepted, says=("Location", "Queue-Delayed")), 422: _SETTLED},
)  # fmt: skip
def import_collection() -> ResponseReturnValue:
    """Import an entity collection, whose records name the target's own tables: no control file is needed. Reply as for other imports."""
    return _waited(*_taken(CollectionRequest(), collection_control))


def collection_control() -> str:
    """Return the digest of the control file by which collections are read; 415 where the body is none, 403 for a limited key."""
    if request.mimetype != COLLECTION_TYPE:
        problem = Problem("Or name a control file: /api/import/NAME.", "Content-Type", allowed=(COLLECTION_TYPE,))
        raise Refusal(415, "body_unknown", "Without a control file only an entity collection can be imported.", [problem])
    if caller().control_names is not None:
        raise Refusal(403, "key_limited", "This key is limited to some control files, so it may not name tables itself.")
    return kept_control(COLLECTIONS).digest


def _waited(accepted: Response, given: dict[str, Any]) -> ResponseReturnValue:
    """Reply with the results, if they are waited for and there in time; else with what was accepted."""
    if not given["wait"]:
        return accepted
    batch = settled_batch(accepted.headers["Location"].rpartition("/")[2], given["wait"], Mode(given["mode"]))
    return _settled(batch, accepted, given["fail"]) if batch.state.is_over else accepted


def _known(digest_or_name: str) -> tuple[Response, dict[str, Any]]:
    """Import what the caller knows by a handle; return the reply, and the checked fields."""
    given = check(_IMPORT, fields.once(list(request.args.items(multi=True))))
    _prefer(given)
    if request.stream.read(1):
        raise Refusal(400, "request_invalid", "The data come by a handle and in the body.", [Problem("Send one of them.", "handle")])
    handle = known(given["handle"])
    if given["sha256"] and given["sha256"].lower() != handle.digest:
        raise DigestMismatch(given["sha256"], handle.digest)
    told = _told_apart(dict(request.args))
    return make_response(once(told, lambda: _submit(of_handle(handle), digest_or_name, given))), given


def _taken(schema: ImportRequest, control_of: Callable[[], str]) -> tuple[Response, dict[str, Any]]:
    """Import what the request brings, by the control file of this digest or name; return the reply, and the checked fields."""
    with _received() as upload:
        given = check(schema, upload.fields)
        _prefer(given)
        if given["handle"]:
            raise Refusal(400, "request_invalid", "A handle stands in the query string.", [Problem("Not in a form.", "handle")])
        assert upload.receiver is not None  # noqa: S101 - `receive` sees to it
        upload.check()
        source = of_upload(upload)
        told = [upload.receiver.digest, request.mimetype, *_told_apart(upload.fields)]
        return make_response(once(told, lambda: _submit(source, control_of(), given))), given


def _told_apart(given: Mapping[str, str]) -> list[str]:
    return [text for pair in sorted(given.items()) if pair[0] not in _NOT_OF_THE_IMPORT for text in pair]


@contextmanager
def _received() -> Iterator[Upload]:
    """Read the request: fields from the query string and, of a form, from its text fields too; data from the form's file or the body."""
    query = fields.once(list(request.args.items(multi=True)))
    with receive(request, parts().spool, parts().settings.max_upload_bytes) as upload:
        twice = [Problem("Given in the query string and in the form.", name[:80]) for name in query if name in upload.fields]
        if twice:
            raise Refusal(400, "request_invalid", "A field is given more than once.", twice)
        upload.fields |= query
        yield upload


def _prefer(given: dict[str, Any]) -> None:
    """Take what the header Prefer (RFC 7240) says of waiting, where no field does."""
    said = ",".join(request.headers.getlist("Prefer"))
    if _ASYNC.search(said):
        given["wait"] = 0.0
    elif not given["wait"] and (found := _WAIT.search(said)):
        given["wait"] = float(found[1])


def of_handle(handle: Handle) -> Source:
    """Return as an import's data what is known by a handle."""

    def looks_like() -> str | None:
        with parts().spool.open(handle.digest) as stored:
            return format_like(stored.read(HEAD_BYTES))

    return Source(lambda: (handle.digest, handle.size), handle.name, format_of(handle.name), handle.handle, looks_like)


def format_of(name: str) -> str | None:
    """Return the format that the ending of a file's name tells; None where it tells none."""
    return FORMATS.get(bare_name(name).rpartition(".")[2])


def format_like(head: bytes) -> str | None:
    """Return the format that the first bytes of a file can only mean; None where they may be a table of text.

    >>> format_like(b'[{"code": 1}]'), format_like(b'{"code": 1}'), format_like(b"PK..."), format_like(b"[code],name")
    ('json', 'jsonl', 'xlsx', None)
    """
    if head.startswith(b"PK"):
        return "xlsx"
    begun = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if re.match(rb"\[\s*[{\]]", begun):
        return "json"
    return "jsonl" if re.match(rb"\{\s*[\"}]", begun) else None


def of_upload(upload: Upload) -> Source:
    """Return as an import's data what the request has brought."""
    assert upload.receiver is not None  # noqa: S101 - `receive` sees to it
    return Source(
        upload.receiver.commit, download.display_name(upload.file_name), _BY_TYPE.get(request.mimetype),
        looks_like=lambda: _BY_TYPE.get(upload.part_type) or format_like(upload.head),
    )  # fmt: skip


def _submit(source: Source, control_name: str, given: dict[str, Any]) -> Response:
    started = start(source, control_name, given)
    place = f"/api/batch/{started.batch}"
    links = {"status": place, "results": f"{place}/results", "errors": f"{place}/errors", "cancel": f"{place}/cancel"}
    said = {"batch": started.batch, "control": started.control, "digest": started.digest, "name": started.name}
    reply = replies.bare(str(started.batch), said | {"mode": started.options.mode, "links": links}, 202)
    reply.headers["Location"] = place
    announce(started.batch, started.options, reply)
    return reply


def start(source: Source, control_name: str, given: dict[str, Any]) -> Started:
    """Make a batch of the data and put it into the queue; `given` are the checked fields of an ImportRequest.

    Refusal: 404 for a control file that the caller may not use; 409 `blocked`; 422 for data that the control file has no place for.
    """
    control = usable_control(control_name)
    form = given["format"] or source.format
    name = _name(_files(control.digest), given, form, "" if source.is_title else source.name)
    read = _read_as(_files(control.digest), name, form)
    refuse_missing(control.digest, {name})
    refuse_writes(caller(), control.digest, {name})
    digest, size = source.commit()
    sent = Submission(
        control=control.digest, key_id=caller().id, name=name, digest=digest, size=size, uploaded_as=source.name, handle=source.handle,
        format=form, separator=given["separator"], comment=given["comment"], file_name=given["file_name"] or source.name,
        creation_path=given["creation_path"], addresses=addresses_of(given),
    )  # fmt: skip
    options = options_of(given)
    batch_id = g.batch_id = submit(
        parts().catalog, sent, options, control.tables, refuse_if_busy=given["when_busy"] == "refuse", held=held()
    )
    return Started(batch_id, control.digest, digest, name, read, options)


@lru_cache(maxsize=256)
def _files(digest: str) -> dict[str, dict[str, Any]]:
    """Return a stored control file's `files`; kept, since the bytes of a digest never change."""
    with parts().spool.open(digest) as stored:
        document = control_files.parse(stored.read(), parts().settings.max_control_bytes)
    return {name: options or {} for name, options in (document.data.get("files") or {}).items()}


def _name(files: dict[str, dict[str, Any]], given: dict[str, Any], form: str | None, sent_as: str) -> str:
    """Return the name by which the control file is to know the data: the one that is said, or the only one that there is."""
    described = [name for name in files if name != "DEFAULT"]
    takes_any = not files or "DEFAULT" in files
    for name in (given["name"], given["file_name"]):
        if name and (name in described or (takes_any and not download.moves_or_hides(name))):
            return str(name)
    if given["name"] is None and len(described) == 1:
        return described[0]
    if given["name"] is None and takes_any:
        return f"data.{form or 'csv'}{sent_as.lower().removeprefix(bare_name(sent_as))}"  # unpacked, where it was sent as .gz or .zst
    problem = Problem("Say which of them it is.", "name", allowed=tuple(described))
    raise Refusal(422, "name_unknown", "The control file has several files, or none of this name.", [problem])


def _read_as(files: dict[str, dict[str, Any]], name: str, form: str | None) -> str:
    """Return how a file is read; JSON is refused where its rows are to name their own entity."""
    said = files.get(name, files.get("DEFAULT", {}))
    read = str(form or said.get("read") or FORMATS.get(bare_name(name).rpartition(".")[2], "csv"))
    if read in ("json", "jsonl") and "entity" not in said:
        problem = Problem("Its control file names no entity for it, as JSON needs.", name, allowed=("csv", "tsv", "xlsx"))
        raise Refusal(422, "format_unfit", "The file cannot be JSON.", [problem])
    return read


def _settled(batch: Batch, accepted: Response, fail: str | None) -> Response:
    """Reply with the results of a batch that is over; a key that may not read gets the line of its status."""
    exit_status = import_exit(batch)
    if not caller().can("read"):
        reply = replies.bare(line_of(batch), {"batch": batch.id, "status": line_of(batch)})
    elif replies.wants_json():
        reply = replies.json(details(batch) | {"results": first_page(batch)})
    else:
        reply = whole_log(batch)
    if exit_status == 2 and fail == "rows":
        reply.status_code = 422
    for name in ("Location", "Queue-Delayed", "Idempotent-Replayed"):
        if name in accepted.headers:
            reply.headers[name] = accepted.headers[name]
    reply.headers["Import-Exit"] = str(exit_status)
    return reply
