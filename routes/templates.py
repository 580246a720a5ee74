"""What a user starts from: a control file made from a table, and templates of the files that a control file describes."""

from __future__ import annotations

import csv
import io

from flask import Blueprint, Response
from flask.typing import ResponseReturnValue

from engine.control.generate import generated_control
from engine.control.template import TemplateColumn, columns_of, entities_of
from engine.plan import FilePlan, Plan
from engine.tables import Kind
from engine.workbook import Column, Look, workbook
from errors import ControlFileInvalid, Problem, Refusal
from routes import download, fields, parts, replies
from routes.auth import caller, requires
from routes.control import usable_control
from routes.described import CSV, Reply, described
from routes.failed import XLSX_TYPE
from schemas.replies import LimitsReply
from schemas.requests import Request, Text, about

routes = Blueprint("templates", __name__, url_prefix="/api")

_LOOKS = {
    Kind.DATE: Look.DATE, Kind.TIMESTAMP: Look.DATETIME, Kind.TIMESTAMP_TZ: Look.DATETIME, Kind.TIME: Look.TIME, Kind.INTEGER: Look.PLAIN,
    Kind.DECIMAL: Look.PLAIN, Kind.FLOAT: Look.PLAIN,
}  # fmt: skip


class TemplateQuery(Request):
    """Which of the control file's files is meant; needed where there are several."""

    file = Text(load_default=None, metadata=about("One of the control file's files."))


@routes.get("/entity/<table>/control")
@requires("read", "import", "control")
@described(replies={200: Reply(types=("text/yaml",))})
def generate_control(table: str) -> ResponseReturnValue:
    """Reply with a control file made from a table: all its columns, its key, its references."""
    if caller().control_names is not None:
        raise Refusal(403, "key_limited", "This key is limited to some control files, so it may not make others.")
    return Response(generated_control(parts().tables(), table), content_type="text/yaml; charset=utf-8")


@routes.get("/control/<digest_or_name>/template.csv")
@requires("read", "import", "control")
@described(query=TemplateQuery, refuses=(409, 410, 422), replies={200: Reply(types=(CSV,), says=("Content-Disposition",))})
def get_csv_template(digest_or_name: str) -> ResponseReturnValue:
    """Reply with the header of a file as the control file wants it, required columns marked with `*`."""
    plan, file = _file(digest_or_name)
    separator = file.separator or ("\t" if file.read == "tsv" else ",")
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows(_rows(plan, file))
    reply = Response(text.getvalue().encode(file.encoding, "replace"), content_type=f"text/csv; charset={file.encoding}")
    download.name_it(reply, f"{_called(plan, file)}-template.csv")
    return reply


@routes.get("/control/<digest_or_name>/template.xlsx")
@requires("read", "import", "control")
@described(query=TemplateQuery, refuses=(409, 410, 422), replies={200: Reply(types=(XLSX_TYPE,), says=("Content-Disposition",))})
def get_xlsx_template(digest_or_name: str) -> ResponseReturnValue:
    """Reply with a workbook that has the header, required columns in red, and lists to choose from where few values are allowed."""
    plan, file = _file(digest_or_name)
    columns = _columns(file) if file.entity else []
    looks = [Look.REQUIRED if column.is_required else Look.HEADER for column in columns]
    rows = [[column.name for column in columns]] if columns else _rows(plan, file)
    below = [Column(_LOOKS.get(column.kind, Look.TEXT) if column.kind else Look.TEXT, column.choices) for column in columns]
    reply = Response(b"".join(workbook(rows, header=looks, columns=below)), content_type=XLSX_TYPE)
    download.name_it(reply, f"{_called(plan, file)}-template.xlsx")
    return reply


@routes.get("/limits")
@requires("read", "import", "control")
@described(replies={200: Reply(LimitsReply)})
def get_limits() -> ResponseReturnValue:
    """Tell how large files may be, how they may come, and how long replies are waited for: lines, or JSON."""
    settings = parts().settings
    names = (
        "max_upload_bytes", "max_control_bytes", "max_field_chars", "max_columns", "max_line_bytes", "max_expansion_ratio",
        "max_expanded_bytes", "chunk_records", "chunk_bytes", "wait_cap_seconds", "idempotency_hours",
    )  # fmt: skip
    limits = {name: getattr(settings, name) for name in names}
    formats = {"formats": ["csv", "tsv", "jsonl", "json", "xlsx"], "compressions": ["gz", "zst"]}
    if replies.wants_json():
        return replies.json(limits | formats)
    lines = {name: f"{value:g}" if isinstance(value, float) else value for name, value in limits.items()}
    lines |= {name: ",".join(values) for name, values in formats.items()}
    return replies.text("".join(f"{name}={value}\n" for name, value in lines.items()))


def _file(digest_or_name: str) -> tuple[Plan, FilePlan]:
    """Return a control file's plan, and the file of it that the query means."""
    wanted = fields.of_query(TemplateQuery())["file"]
    with parts().spool.open(usable_control(digest_or_name).digest) as stored:
        try:
            plan = parts().compile(stored.read())
        except ControlFileInvalid as faults:
            raise Refusal(409, "control_invalid", "The control file no longer fits the target's tables.", faults.problems) from None
    if wanted is None and len(plan.files) + (plan.default is not None) == 1:
        return plan, next(iter(plan.files.values()), plan.default) or FilePlan("data")
    found = plan.file(wanted) if wanted is not None else None
    if found is None:
        problem = Problem("Say which of the control file's files it is to be.", "file", allowed=tuple(plan.files))
        raise Refusal(422, "name_unknown", "The control file has several files, or none of this name.", [problem])
    return plan, found


def _called(plan: Plan, file: FilePlan) -> str:
    """Return what a template is called after: its file, or the control file where that takes any."""
    return plan.name or "data" if file is plan.default else file.name


def _columns(file: FilePlan) -> list[TemplateColumn]:
    return columns_of(file.entity, parts().values_of) if file.entity else []


def _rows(plan: Plan, file: FilePlan) -> list[list[str]]:
    """Return the rows of a template that can mark required columns by a star only."""
    if file.entity is not None:
        return [[_starred(column) for column in _columns(file)]] if file.has_header else []
    return [["#Entity", "Action", *map(_starred, columns_of(entity, lambda *_: ()))] for entity in entities_of(plan, file)]


def _starred(column: TemplateColumn) -> str:
    return f"*{column.name}" if column.is_required else column.name
