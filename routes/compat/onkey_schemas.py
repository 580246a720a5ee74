"""On Key's import schemas: control files with a number, and those that are made from every table."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from marshmallow import fields as kinds, validate

from catalog import controls, import_schemas
from catalog.import_schemas import MADE_BY_US, ImportSchema, Restriction
from catalog.states import TableKey
from engine.control.generate import generated_schema, schema_name
from errors import Problem, Refusal
from routes import download, fields, parts, replies
from routes.auth import batch_id_of, caller, requires
from routes.compat import onkey_replies as said
from routes.control import kept_control
from routes.idempotency import idempotent
from schemas import control as control_files
from schemas.control import CONTROL_FILE_NAME_RULE, control_file_name_is_good
from schemas.requests import ForeignRequest, Text, check

routes = Blueprint("schemas", __name__, url_prefix="/schemas")


class _Schema(ForeignRequest):
    name = Text(required=True)
    restriction = kinds.String(data_key="restrictionLevel", load_default="Private", validate=validate.OneOf([r.value for r in Restriction]))
    description = Text(load_default="", allow_none=True, validate=validate.Length(max=10_000))
    schema = Text(required=True)


@dataclass(frozen=True, slots=True)
class Made:
    """A schema that is made from a table when it is asked for."""

    id: int  # from 2^52 on
    table: TableKey
    name: str
    description: str = ""

    def yaml(self) -> str:
        """Return the schema."""
        schema, table = self.table
        return generated_schema(parts().tables(), table if schema is None else f"{schema}.{table}")

    def control(self) -> str:
        """Return the digest of its control file."""
        return kept_control(self.yaml().encode()).digest


@dataclass(frozen=True, slots=True)
class Stored:
    """A schema that somebody has made."""

    stored: ImportSchema

    @property
    def id(self) -> int:
        """Return its number."""
        return self.stored.id

    @property
    def name(self) -> str:
        """Return its name."""
        return self.stored.name

    @property
    def description(self) -> str:
        """Return its description."""
        return self.stored.description

    def yaml(self) -> str:
        """Return the schema as it was sent."""
        with parts().spool.open(self.stored.digest) as blob:
            return blob.read().decode("utf-8-sig")

    def control(self) -> str:
        """Return the digest of its control file."""
        return self.stored.digest


@routes.post("")
@requires("control", "import")
@idempotent
def create_schema() -> ResponseReturnValue:
    """Check and store a schema; the reply names it."""
    given = _given(_Schema())
    made = import_schemas.create(
        parts().catalog, caller(), name=given["name"], description=given["description"] or "",
        restriction=Restriction(given["restriction"]), digest=_checked(given["schema"]),
    )  # fmt: skip
    return said.with_id(replies.json(_resource(Stored(made)), 201, said.ENTITY), made.id)


@routes.get("")
@requires("read", "import", "control")
def list_schemas() -> ResponseReturnValue:
    """List the schemas that the key may use, then those that are made from the tables."""
    found: list[Stored | Made] = [Stored(schema) for schema in import_schemas.visible(parts().catalog, caller())]
    items = [_resource(schema, is_whole=False) for schema in [*found, *_made()]]
    return replies.json({"count": len(items), "items": items}, content_type=said.COLLECTION)


@routes.get("/<schema>")
@requires("read", "import", "control")
def get_schema(schema: str) -> ResponseReturnValue:
    """Give a schema."""
    return replies.json(_resource(schema_of(schema)), content_type=said.ENTITY)


@routes.route("/<schema>", methods=["PUT", "PATCH"])
@requires("control", "import")
def change_schema(schema: str) -> ResponseReturnValue:
    """Change what the request names of a schema; batches that were made with it stay as they are."""
    own = _own(schema)
    given = _given(_Schema(partial=True))
    if "schema" in given:
        given["digest"] = _checked(given.pop("schema"))
    if "restriction" in given:
        given["restriction"] = Restriction(given["restriction"])
    return replies.json(_resource(Stored(import_schemas.change(parts().catalog, own, caller(), **given))), content_type=said.ENTITY)


@routes.delete("/<schema>")
@requires("control", "import")
def delete_schema(schema: str) -> ResponseReturnValue:
    """Delete a schema."""
    import_schemas.remove(parts().catalog, _own(schema), caller())
    return replies.text("", 204)


@routes.get("/<schema>/generate/csv/download")
@requires("read", "import", "control")
def generate_csv(schema: str) -> ResponseReturnValue:
    """Give a CSV file prepared for a schema: its name, and a header line for each of its entities."""
    found = schema_of(schema)
    document = control_files.parse(found.yaml().encode(), parts().settings.max_control_bytes)
    text = io.StringIO(newline="")
    rows: list[Sequence[str]] = [[f"!{found.name}"]]
    rows += [["#Entity", "Action", *entity["input"]] for entity in document.data["entities"]]
    csv.writer(text, lineterminator="\n").writerows(rows)
    reply = Response(text.getvalue().encode(), content_type="text/csv; charset=utf-8")
    download.name_it(reply, f"{found.name}.csv")
    return reply


# What is meant -------------------------------------------------------------------------------------------------------------
def schema_of(text: str) -> Stored | Made:
    """Return the schema of this number; 404 where there is none that the key may use."""
    found = named(batch_id_of(text))
    if found is None:
        raise Refusal(404, "schema_unknown", f"There is no import schema {text[:40]}.")
    return found


def named(number: int | None) -> Stored | Made | None:
    """Return the schema of this number, as far as there is one that the key may use."""
    if number is None:
        return None
    if number < MADE_BY_US:
        stored = import_schemas.get(parts().catalog, number, caller())
        return None if stored is None else Stored(stored)
    return next((schema for schema in _made() if schema.id == number), None)


def tables_of(digest: str) -> Sequence[TableKey]:
    """Return the tables that a control file writes."""
    control = controls.get(parts().catalog, digest)
    return control.tables if control else ()


def _made() -> list[Made]:
    """Return the schemas of all tables; a number is the table's own for ever, being made from its name."""
    if caller().control_names is not None:
        return []
    return [Made(_number(table), table, schema_name(table[1])) for table in parts().tables().names()]


def _number(table: TableKey) -> int:
    return MADE_BY_US + int.from_bytes(hashlib.sha256(repr(table).encode()).digest()[:6], "big")


def _own(text: str) -> ImportSchema:
    found = schema_of(text)
    if isinstance(found, Made):
        raise Refusal(403, "schema_generated", "A schema that is made from a table cannot be changed; make one of your own from it.")
    return found.stored


def _resource(schema: Stored | Made, is_whole: bool = True) -> dict[str, Any]:
    if isinstance(schema, Made):
        properties: dict[str, Any] = {"restrictionLevel": Restriction.PUBLIC, "isSystemGenerated": True}
        version = 1
    else:
        stored, version = schema.stored, schema.stored.version
        properties = said.made(stored.key_id, stored.created_at, stored.modified_at)
        properties |= {"restrictionLevel": stored.restriction, "isSystemGenerated": False}
    properties |= {"name": schema.name, "description": schema.description}
    return said.resource("ImportSchema", schema.id, version, properties | ({"schema": schema.yaml()} if is_whole else {}))


# What is given ---------------------------------------------------------------------------------------------------------------
def _given(schema: _Schema) -> dict[str, Any]:
    """Return the properties of a resource that was sent; its texts may hold line ends as they stand, which JSON does not allow."""
    fields.read_small_body()
    try:
        body = json.loads(request.get_data(), strict=False)
        properties = body["properties"]
        if not isinstance(properties, dict):
            raise TypeError
    except (ValueError, RecursionError, KeyError, TypeError):
        raise Refusal(400, "request_invalid", "The body is no JSON object with `properties`.") from None
    given = check(schema, properties)
    if "name" in given and not control_file_name_is_good(given["name"]):
        raise Refusal(400, "request_invalid", "The schema cannot have this name.", [Problem(CONTROL_FILE_NAME_RULE, "name")])
    return given


def _checked(text: str) -> str:
    """Check a schema as a control file, store it, and return its digest."""
    if caller().control_names is not None:
        raise Refusal(403, "key_limited", "This key is limited to some control files, so it may not make others.")
    data = text.encode()
    document = control_files.parse(data, parts().settings.max_control_bytes)
    surplus = [Problem("An import schema does not say this.", name) for name in ("name", "files") if name in document.data]
    if surplus:
        raise Refusal(400, "control_file_invalid", "The control file has faults.", surplus)
    return kept_control(data).digest
