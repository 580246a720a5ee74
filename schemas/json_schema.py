"""JSON Schemas (2020-12, as OpenAPI 3.1 has them) of our marshmallow schemas, so that what is checked and what is told are one thing."""

from __future__ import annotations

from typing import Any

from marshmallow import Schema, fields, missing, validate

from schemas.replies import Moment
from schemas.requests import Addresses, BatchId, Instant, Request

# The first kind that a field is an instance of says its type; so those that are made of others stand first.
_KINDS: tuple[tuple[type[fields.Field[Any]], dict[str, Any]], ...] = (
    (Instant, {"type": "string", "format": "date-time"}),
    (Moment, {"type": "string", "format": "date-time"}),
    (Addresses, {"type": "string", "maxLength": 1000, "format": "email"}),
    (BatchId, {"type": "integer", "minimum": 1, "maximum": 2**53 - 1}),
    (fields.Boolean, {"type": "boolean"}),
    (fields.Integer, {"type": "integer"}),
    (fields.Number, {"type": "number"}),
    (fields.Mapping, {"type": "object"}),
    (fields.List, {"type": "array"}),
    (fields.String, {"type": "string"}),
)


def of_schema(schema: Schema) -> dict[str, Any]:
    """Return the JSON Schema of an object with these fields, under the names by which they are sent.

    >>> class Pair(Schema):
    ...     left = fields.Integer(required=True, metadata={"description": "The first."})
    >>> of_schema(Pair())["properties"]
    {'left': {'type': 'integer', 'description': 'The first.'}}
    """
    told: dict[str, Any] = {"type": "object", "properties": properties_of(schema)}
    if needed := [field.data_key or name for name, field in schema.fields.items() if field.required]:
        told["required"] = needed
    if isinstance(schema, Request):
        told["additionalProperties"] = False  # a field that is not known is refused
    return told


def properties_of(schema: Schema) -> dict[str, dict[str, Any]]:
    """Return the JSON Schema of each field by the name under which it is sent."""
    return {field.data_key or name: of_field(field) for name, field in schema.fields.items()}


def place_of(shape: type[Schema]) -> str:
    """Return where a document keeps a shape that others refer to."""
    return f"#/components/schemas/{shape.__name__}"


def with_nested(shapes: dict[str, type[Schema]]) -> dict[str, type[Schema]]:
    """Return these shapes, and all that they refer to, by name."""
    found: dict[str, type[Schema]] = {}
    ahead = list(shapes.values())
    while ahead:
        shape = ahead.pop()
        found[shape.__name__] = shape
        inner = [field.inner if isinstance(field, fields.List) else field for field in shape().fields.values()]
        ahead += [type(field.schema) for field in inner if isinstance(field, fields.Nested) and type(field.schema).__name__ not in found]
    return found


def of_field(field: fields.Field[Any]) -> dict[str, Any]:
    """Return the JSON Schema of one field: its type, what its validators allow, its default and what is said of it."""
    told = _of_kind(field)
    for validator in field.validators:
        told |= _of_validator(validator)
    if field.allow_none and "type" in told and field.load_default is missing:
        told["type"] = [told["type"], "null"]
        if "enum" in told:
            told["enum"] = [*told["enum"], None]
    if field.load_default is not missing and isinstance(field.load_default, str | int | float) and field.load_default != "":
        told["default"] = field.load_default
    return told | {name: field.metadata[name] for name in ("description", "examples") if name in field.metadata}


def _of_kind(field: fields.Field[Any]) -> dict[str, Any]:
    if isinstance(field, fields.Nested):
        inner = {"$ref": place_of(type(field.schema))}
        return {"type": "array", "items": inner} if field.many else inner
    told = dict(next((told for kind, told in _KINDS if isinstance(field, kind)), {}))
    if isinstance(field, fields.List):
        told["items"] = of_field(field.inner)
    if isinstance(field, fields.Mapping) and field.value_field is not None:
        told["additionalProperties"] = of_field(field.value_field)
    return told


def _of_validator(validator: Any) -> dict[str, Any]:
    """Return what a validator allows; nothing for one that no schema can tell."""
    match validator:
        case validate.OneOf():
            return {"enum": list(validator.choices)}
        case validate.Range():
            return _said(minimum=validator.min, maximum=validator.max)
        case validate.Length():
            return _said(minLength=validator.equal or validator.min, maxLength=validator.equal or validator.max)
        case validate.Regexp():
            return {"pattern": ecma(str(validator.regex.pattern))}
    return {}


def _said(**limits: Any) -> dict[str, Any]:
    return {name: limit for name, limit in limits.items() if limit is not None}


def ecma(pattern: str) -> str:
    r"""Return a pattern as JSON Schemas write it, for one that matches whole texts.

    >>> ecma(r"[a-z]{2}\Z|\Z")
    '^(?:[a-z]{2}|)$'
    """
    return f"^(?:{pattern.replace(chr(92) + 'Z', '')})$"
