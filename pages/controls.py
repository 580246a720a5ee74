"""Control files: which there are, what stands in them, how they have changed, and an editor that checks while one types."""

from __future__ import annotations

import difflib
from collections import Counter
from itertools import groupby
from operator import itemgetter
from typing import Any

from flask import Blueprint, redirect, request, url_for
from flask.typing import ResponseReturnValue
from marshmallow import validate

from catalog import controls, listing
from catalog.listing import Filters
from engine.control.generate import generated_control
from errors import ControlFileInvalid, Problem, Refusal
from pages import forms
from pages.looks import page
from pages.session import signed_in
from routes import file, parts, templates, trial
from routes.auth import caller
from routes.control import is_named_for_caller, store_control, usable_control
from schemas.requests import Request, Text

routes = Blueprint("controls", __name__, url_prefix="/controls")

_WORDS = {
    "create": "create", "update": "update if it differs", "delete": "delete", "refuse": "refused", "skip": "skipped", "read": "read",
}  # fmt: skip
_MEANS = {
    "null": "empty", "default": "the column's default", "kept": "as it is", "masked": "masked", "fault": "at fault",
    "later": "what an earlier record makes",
}  # fmt: skip
_NEW = """\
# What there is to say is told in the reference of control files; faults stand beside it as you type.
name:
files:
entities:
"""


class Draft(Request):
    """A control file in the editor."""

    text = Text(load_default="")
    comment = Text(load_default="", validate=validate.Length(max=2000))
    name = Text(load_default=None, validate=validate.Length(max=200))


@routes.get("")
@signed_in("read")
def index() -> ResponseReturnValue:
    """List the named control files, and the tables that one can be made from."""
    named = [name for name in controls.names(parts().catalog) if is_named_for_caller(name.name)]
    tables = [f"{schema}.{name}" if schema else name for schema, name in parts().tables().names()] if _may_write() else []
    return page("controls.html", named=named, tables=tables, may_write=_may_write())


@routes.get("/<name>")
@signed_in("read")
def show(name: str) -> ResponseReturnValue:
    """Show a control file, its versions, what has changed between two of them, and the imports that used it."""
    control = usable_control(name)
    versions = controls.versions(parts().catalog, control.names[0]) if control.names else []
    text = _text(control.digest)
    before = request.args.get("from")
    difference = _difference(usable_control(before).digest, control.digest) if before else None
    used = listing.newest(parts().catalog, caller(), Filters(control=control.digest), limit=10)
    return page(
        "control.html", control=control, lines=text.splitlines(), versions=versions, difference=difference, used=used,
        before=before, may_write=_may_write(), files=[name for name in file.file_names(control.digest) if name != "DEFAULT"],
    )  # fmt: skip


def _difference(old: str, new: str) -> list[str]:
    return list(difflib.unified_diff(_text(old).splitlines(), _text(new).splitlines(), old[:12], new[:12], lineterm=""))


def _text(digest: str) -> str:
    with parts().spool.open(digest) as stored:
        return stored.read().decode("utf-8", "replace")


@routes.get("/<name>/template.<kind>")
@signed_in("read")
def template(name: str, kind: str) -> ResponseReturnValue:
    """Give a file to fill in, as CSV or XLSX."""
    return templates.get_xlsx_template(name) if kind == "xlsx" else templates.get_csv_template(name)


@routes.get("/-/edit")
@signed_in("import", "control")
def edit() -> ResponseReturnValue:
    """Open the editor: empty, with a stored control file, or with one made from a table."""
    start, table = request.args.get("start"), request.args.get("table")
    stored = _text(usable_control(start).digest) if start else _NEW
    text = generated_control(parts().tables(), table) if table else stored
    return page("control_edit.html", **_checked(text), comment="", name="", refused=None)


@routes.post("/-/check")
@signed_in("import", "control")
def check_draft() -> ResponseReturnValue:
    """Give the faults of what stands in the editor."""
    return page("control_faults.html", **_checked(forms.of_form(Draft())["text"]))


@routes.post("/-/edit")
@signed_in("import", "control")
def save() -> ResponseReturnValue:
    """Store what stands in the editor, if it has no fault."""
    if not _may_write():
        raise Refusal(403, "key_limited", "This key is limited to some control files, so it may not store others.")
    given = forms.of_form(Draft())
    data = given["text"].replace("\r\n", "\n").encode()
    try:
        digest, _ = store_control(data, given["comment"], given["name"])
    except Refusal as refusal:
        return page(
            "control_edit.html",
            refusal.status,
            comment=given["comment"],
            name=given["name"] or "",
            refused=refusal,
            **_checked(given["text"]),
        )
    return redirect(url_for("pages.controls.show", name=digest), 303)


@routes.post("/-/try")
@signed_in("import", "control")
def try_draft() -> ResponseReturnValue:
    """Tell what the records of a sample would become with what stands in the editor."""
    try:
        found = trial.tried()
    except Refusal as refusal:
        return page("tried.html", trouble=str(refusal), tried=None)
    groups = [(entity, list(records)) for entity, records in groupby(found["records"], key=itemgetter("entity"))]
    counts = Counter(record["operation"] for record in found["records"]).items()
    return page(
        "tried.html", trouble=None, tried=found, tables=[_table(*group) for group in groups], words=_WORDS, means=_MEANS, counts=counts
    )


def _table(entity: str, records: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the records of one entity as a table has them: each with a cell, or none, for every column."""
    columns = list(dict.fromkeys(cell["column"] for record in records for cell in record["cells"]))
    rows = [(record, [{c["column"]: c for c in record["cells"]}.get(column) for column in columns]) for record in records]
    return {"entity": entity, "of": next((record["table"] for record in records), ""), "columns": columns, "rows": rows}


def _checked(text: str) -> dict[str, Any]:
    """Return a text, what is wrong with it as a control file, and the files that it names where nothing is."""
    try:
        plan = parts().compile(text.replace("\r\n", "\n").encode(errors="replace"))
    except ControlFileInvalid as faults:
        return {"text": text, "faults": faults.problems, "names": list[str]()}
    return {"text": text, "faults": list[Problem](), "names": list(plan.files)}


def _may_write() -> bool:
    key = caller()
    return key.control_names is None and (key.can("import") or key.can("control"))
