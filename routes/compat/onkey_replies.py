"""How On Key replies: notifications, resources, instants, numbers."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import orjson
from flask import Response

from catalog import keys
from engine import results
from errors import Refusal
from routes import parts, replies

_SKIPPED_HEADER = "Core_ImportFile_SkippedHeaderLine"
NOTIFICATION = "application/vnd.onkey.notification+json"
ENTITY = "application/vnd.onkey.entity+json"
COLLECTION = "application/vnd.onkey.entitycollection+json"


def refuse(refusal: Refusal) -> Response:
    """Reply with a refusal as messages, one for each thing wrong."""
    said = [str(problem) for problem in refusal.problems]
    messages = [_message(refusal.code, text, "error", None, None, None) for text in [refusal.detail, *said]]
    reply = replies.json({"messages": messages}, refusal.status, NOTIFICATION)
    reply.headers.update(refusal.headers)
    return reply


def messages(rows: Iterator[list[str]], is_collection: bool) -> Iterator[bytes]:
    """Yield a reply's messages, one for each result, as they are read."""
    joint = b'{"messages":['
    for row in rows:
        told = orjson.loads(row[4] or "{}")
        user_id = told.get("userObjectId") if is_collection else row[3]
        said = _message(row[0], message_of(row), row[2].lower(), row[5] or None, told.get("entityType"), user_id)
        yield joint + orjson.dumps(said)
        joint = b","
    yield b'{"messages":[]}' if joint != b"," else b"]}"


def _message(
    code: str, message: str, severity: str, object_id: str | None, object_type: str | None, user_id: str | None
) -> dict[str, str | None]:
    return {
        "code": code, "message": message, "objectId": object_id, "objectType": object_type, "severity": severity, "userObjectId": user_id
    }  # fmt: skip


def message_of(row: list[str]) -> str:
    """Return a result's message; that of a header line names its number there, not its text."""
    if row[0] == _SKIPPED_HEADER and row[2] == "Information":
        return f"Skipped header line '{row[3]}'"
    return row[1]


def six_columns(rows: Iterator[list[str]]) -> Iterator[bytes]:
    """Yield results as CSV in the six columns that there are."""
    yield b"#Code,Message,Severity,LineNumber,Properties,EntityId\n"
    for row in rows:
        yield (",".join(map(results.cell, [row[0], message_of(row), *row[2:6]])) + "\n").encode()


def items(rows: Iterator[list[str]]) -> Iterator[bytes]:
    """Yield results as a collection of resources; it ends with their number, which is known last."""
    count, joint = 0, b'{"items":['
    for row in rows:
        properties = {
            "code": row[0], "entityId": row[5], "importRecordNumber": int(row[3]), "message": message_of(row), "properties": [row[4]],
            "severity": row[2].lower(),
        }  # fmt: skip
        yield joint + orjson.dumps({"class": "ImportFileResult", "properties": properties, "links": []})
        count, joint = count + 1, b","
    yield (joint if not count else b"") + b'],"count":%d}' % count


def resource(kind: str, number: int, version: int, properties: dict[str, Any]) -> dict[str, Any]:
    """Return a resource as JSON has it."""
    return {"class": kind, "id": number, "version": version, "properties": properties, "links": []}


def with_id(reply: Response, number: int) -> Response:
    """Name the resource that a request has made."""
    reply.headers["OnKey-Resource-Id"] = str(number)
    return reply


def made(key_id: str, created: datetime, modified: datetime) -> dict[str, Any]:
    """Return who made a resource, and when; a key is its own user."""
    key = keys.find(parts().catalog, key_id)
    name = key.name if key else ""
    user = {"UserId": int(key_id, 16), "UserCode": key_id, "UserFullName": name}
    return {
        **{f"createdBy{what}": value for what, value in user.items()}, "createdOn": instant(created),
        **{f"modifiedBy{what}": value for what, value in user.items()}, "modifiedOn": instant(modified),
    }  # fmt: skip


def instant(at: datetime | None) -> str | None:
    """Write an instant in UTC with seven decimals."""
    return None if at is None else f"{at.astimezone(UTC):%Y-%m-%dT%H:%M:%S.%f}0Z"
