"""An import by hand: a control file is picked, files are dropped, a first pass says what would happen, and then it does or does not."""

from __future__ import annotations

from flask import Blueprint, Response, redirect, url_for
from flask.typing import ResponseReturnValue
from marshmallow import fields as kinds, validate

from catalog import batches, controls, files as stored_files
from catalog.batches import Batch, Execution, Mode, Options, State
from errors import Refusal
from pages import forms
from pages.looks import page
from pages.session import signed_in
from routes import file, parts, replies
from routes.auth import caller, visible_batch
from routes.control import is_named_for_caller, usable_control
from routes.schedule import announce, put_into_queue, required_files_of
from schemas.requests import EXECUTIONS, MODES, Request, Text
from spool import parse_digest

routes = Blueprint("by_hand", __name__)


class NewImport(Request):
    """The fields of a new import."""

    control = Text(required=True, validate=validate.Length(max=200))
    comment = Text(load_default="", validate=validate.Length(max=2000))


class Start(Request):
    """How it is to be run."""

    mode = kinds.String(required=True, validate=validate.OneOf(MODES))
    execution = kinds.String(load_default="PerRecord", validate=validate.OneOf(EXECUTIONS))
    is_ordered = kinds.Boolean(data_key="ordered", load_default=False)


@routes.get("/import")
@signed_in("import")
def choose() -> ResponseReturnValue:
    """Ask for the control file."""
    return page("by_hand.html", named=[name for name in controls.names(parts().catalog) if is_named_for_caller(name.name)])


@routes.post("/import")
@signed_in("import")
def begin() -> ResponseReturnValue:
    """Make an empty import, and ask for its files."""
    given = forms.of_form(NewImport())
    control = usable_control(given["control"])
    batch_id = batches.create(parts().catalog, control=control.digest, key_id=caller().id, comment=given["comment"], creation_path="PAGES")
    return redirect(url_for("pages.by_hand.files", batch=batch_id), 303)


@routes.get("/imports/<batch>/files")
@signed_in("read")
def files(batch: str) -> ResponseReturnValue:
    """Show which files the import has, and take more."""
    found = _uploading(batch)
    held = batches.files(parts().catalog, found.id)
    names = [name for name in file.file_names(found.control) if name != "DEFAULT"]
    missing = [name for name in required_files_of(found.control) if name not in {one.name for one in held}]
    limit = parts().settings.max_upload_bytes
    control = controls.get(parts().catalog, found.control)
    return page("files_of_import.html", batch=found, held=held, names=names, missing=missing, limit=limit, control=control)


@routes.post("/imports/<batch>/files")
@signed_in("import")
def take(batch: str) -> ResponseReturnValue:
    """Take a file, or one that was sent before by its digest."""
    file.take_file(file.FileRequest(), lambda _: visible_batch(batch))
    return redirect(url_for("pages.by_hand.files", batch=batch), 303)


@routes.get("/files/<digest>/known")
@signed_in("import")
def is_known(digest: str) -> ResponseReturnValue:
    """Tell whether a file with this digest was sent before, so that it need not be sent again."""
    known = parse_digest(digest) and stored_files.find(parts().catalog, digest, caller()) and parts().spool.size(digest) is not None
    return replies.json({"known": bool(known)})


@routes.post("/imports/<batch>/start")
@signed_in("import")
def start(batch: str) -> ResponseReturnValue:
    """Put the import into the queue: as a first pass that saves nothing, or at once."""
    given = forms.of_form(Start())
    found = _uploading(batch)
    options = Options(Mode(given["mode"]), Execution(given["execution"]), given["is_ordered"])
    put_into_queue(found, options)
    reply = redirect(url_for("pages.one.show", batch=found.id), 303)
    assert isinstance(reply, Response)  # noqa: S101 - the application's own kind
    announce(found.id, options, reply)
    return reply


def _uploading(batch: str) -> Batch:
    found = visible_batch(batch)
    if found.state is not State.UPLOADING:
        raise Refusal(409, "not_uploading", f"Batch {found.id} is {found.state}: its files can no longer change.")
    return found
