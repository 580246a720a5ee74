"""One line for each thing that is logged, as logfmt or as JSON, on stderr."""

import json
import logging
from datetime import UTC, datetime
from typing import Any

_NAME = "lading"


class LineFormatter(logging.Formatter):
    """Writes a record as one line of names and values; `extra={"fields": {...}}` adds some."""

    def __init__(self, is_json: bool) -> None:
        super().__init__()
        self._is_json = is_json

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
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


def configure(log_format: str) -> None:
    """Have everything from INFO on logged to stderr in this format; a repeated call replaces the format."""
    root = logging.getLogger()
    for handler in [h for h in root.handlers if h.name == _NAME]:
        root.removeHandler(handler)
    handler = logging.StreamHandler()
    handler.name = _NAME
    handler.setFormatter(LineFormatter(log_format == "json"))
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    # It tells of its plug-ins whenever it is imported.
    logging.getLogger("alembic").setLevel(logging.WARNING)
