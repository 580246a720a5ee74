"""PostgreSQL's COPY text format: one row a line, so columns become text at the speed of str.join."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_ESCAPES = str.maketrans({"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"})
_NULL = "\\N"


def escape(text: str) -> str:
    r"""Return a value as it stands in COPY's text format.

    >>> escape("a\tb")
    'a\\tb'
    """
    return text.translate(_ESCAPES)


def _ready(column: Sequence[str | None]) -> Sequence[str]:
    has_null = None in column
    joined = "".join([v for v in column if v is not None]) if has_null else "".join(column)  # type: ignore[arg-type]
    if "\\" in joined or "\n" in joined or "\t" in joined or "\r" in joined:
        return [_NULL if v is None else escape(v) for v in column]
    if has_null:
        return [_NULL if v is None else v for v in column]
    return column  # type: ignore[return-value]


def encode(columns: Sequence[Sequence[str | None]]) -> str:
    r"""Return columns of equal length (at least one) as rows of COPY's text format; None is null.

    >>> encode([["1", "2"], ["a", None]])
    '1\ta\n2\t\\N\n'
    """
    return "\n".join(map("\t".join, zip(*map(_ready, columns), strict=True))) + "\n"


def literal(values: Sequence[Any]) -> str:
    r"""Return texts as one PostgreSQL array literal, for parameters of type text[].

    >>> literal(['a', 'b"c', ''])
    '{"a","b\\"c",""}'
    """
    joined = "".join(values)
    if '"' in joined or "\\" in joined:
        values = [v.replace("\\", "\\\\").replace('"', '\\"') for v in values]
    return '{"' + '","'.join(values) + '"}' if values else "{}"
