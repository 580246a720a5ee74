"""One line for each thing that is logged, as logfmt or as JSON, on stderr."""

import json
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

Context = Callable[[], Mapping[str, Any]]  # what this very moment is about: the request, the batch

_NAME = "lading"


class LineFormatter(logging.Formatter):
    """Writes a record as one line of names and values; `extra={"fields": {...}}` adds some, and so does the context."""

    def __init__(self, is_json: bool, context: Context = dict) -> None:
        super().__init__()
        self._is_json, self._context = is_json, context

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        fields |= {name: value for name, value in self._context().items() if name not in fields and value is not None}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, default=str) if self._is_json else logfmt(fields)


def logfmt(fields: dict[str, Any]) -> str:
    r"""Write names and values as logfmt. What anybody may have chosen (a path, say) cannot begin a line of its own.

    >>> print(logfmt({"path": "/a", "message": "two words\n", "ms": 1.5, "key": None}))
    path=/a message="two words\n" ms=1.5 key=
    """
    return " ".join(f"{name}={_value('' if value is None else str(value))}" for name, value in fields.items())


def _value(text: str) -> str:
    return text if text.isascii() and text.isprintable() and not set(' "=\\') & set(text) else json.dumps(text)


def configure(log_format: str, context: Context = dict) -> None:
    """Have everything from INFO on logged to stderr in this format; a repeated call replaces the format."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if h.name == _NAME]:
        root.removeHandler(handler)
    handler = logging.StreamHandler()
    handler.name = _NAME
    handler.setFormatter(LineFormatter(log_format == "json", context))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    # It tells of its plug-ins whenever it is imported.
    logging.getLogger("alembic").setLevel(logging.WARNING)
