"""Cells that a spreadsheet would run as formulas, made harmless. Only for reading: what is sent again must be byte for byte as it was."""

from __future__ import annotations

import re

# The full-width forms count too, since some spreadsheets take them for the plain ones.
_STARTS_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")  # noqa: RUF001
_NUMBER = re.compile(r"[+-]?(\d+([.,]\d+)*|[.,]\d+)([eE][+-]?\d+)?", re.ASCII)
# A spreadsheet of another country may cut at semicolons and tabs, and so make a cell of what stands after one.
_STARTS_FORMULA_WITHIN = re.compile(r"([;\t\r\n]\"*)([=+\-@＝＋－＠])")  # noqa: RUF001


def neutral(cell: str) -> str:
    """Return a cell with an apostrophe before what would start a formula; numbers stay numbers.

    >>> neutral("=cmd|' /C calc'!A0")
    "'=cmd|' /C calc'!A0"
    >>> neutral("-5"), neutral("-5+2"), neutral("a;=b")
    ('-5', "'-5+2", "a;'=b")
    """
    if _NUMBER.fullmatch(cell):
        return cell
    within = _STARTS_FORMULA_WITHIN.sub(r"\1'\2", cell)
    return f"'{within}" if _STARTS_FORMULA.match(cell) else within
