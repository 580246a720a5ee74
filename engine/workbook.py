"""Workbooks as we write them: one sheet of rows, and perhaps lists to choose from, as a stream of bytes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from html import escape
from itertools import islice
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from engine.readers.xlsx.sheet import column_name

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_TYPE = "application/vnd.openxmlformats-officedocument.spreadsheetml"
# What XML cannot hold, or what looks as if it were escaped.
_UNFIT = re.compile("[\\x00-\\x08\\x0b-\\x1f\\ufffe\\uffff\\ud800-\\udfff]|_(?=x[0-9A-Fa-f]{4}_)")
_ROWS_AT_ONCE = 200
_LAST_ROW = 1_048_576
_LIST_SHEET = "Lists"


class Look(IntEnum):
    """How a cell looks: the number of its style in `_STYLES`."""

    PLAIN = 0
    HEADER = 1
    REQUIRED = 2  # a header whose column must be filled
    TEXT = 3  # what is typed stays as it is typed
    DATE = 4
    DATETIME = 5
    TIME = 6


_FONTS = '<fonts count="3"><font/><font><b/></font><font><b/><color rgb="FFB00020"/></font></fonts>'
_FILLS = '<fills count="2"><fill><patternFill patternType="none"/></fill><fill><patternFill patternType="gray125"/></fill></fills>'
_CODES = {164: "yyyy-mm-dd", 165: "yyyy-mm-dd hh:mm:ss"}
_FORMATS = "".join(f'<numFmt numFmtId="{number}" formatCode="{code}"/>' for number, code in _CODES.items())
_STYLES = ("0", '0" fontId="1" applyFont="1', '0" fontId="2" applyFont="1', "49", "164", "165", "21")


class ErrorCell(str):
    """An error, as `#N/A`: written as one, so that it is read as one again."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Column:
    """What is to be typed into a column: its look, and the values to choose from (none: any)."""

    look: Look = Look.PLAIN
    choices: Sequence[str] = ()


def workbook(rows: Iterable[Sequence[str]], *, header: Sequence[Look] = (), columns: Sequence[Column] = ()) -> Iterator[bytes]:
    """Yield a workbook of these rows, all of them text. `header`: how the cells of the first row look; `columns`: what goes below them."""
    sink = _Sink()
    with ZipFile(sink, "w", ZIP_DEFLATED) as package:  # type: ignore[call-overload]
        for name, text in _frame(columns).items():
            _add(package, name, [text])
        with package.open(_info("xl/worksheets/sheet1.xml"), "w", force_zip64=True) as part:
            for piece in _sheet(rows, header, columns):
                part.write(piece.encode())
                yield sink.taken()
    yield sink.taken()


class _Sink:
    """What a package is written to: it only goes forward."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: the pieces are there."""

    def taken(self) -> bytes:
        data = b"".join(self._pieces)
        self._pieces.clear()
        return data


def _info(name: str) -> ZipInfo:
    info = ZipInfo(name)  # which is of 1980: the same rows are the same bytes, whenever they are written
    info.compress_type = ZIP_DEFLATED
    return info


def _add(package: ZipFile, name: str, pieces: Iterable[str]) -> None:
    package.writestr(_info(name), '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>' + "".join(pieces))


def _frame(columns: Sequence[Column]) -> dict[str, str]:
    """Return all parts but the sheet."""
    lists = [column.choices for column in columns if column.choices]
    names = ["sheet1", "sheet2"] if lists else ["sheet1"]
    overrides = [("xl/workbook.xml", "sheet.main"), ("xl/styles.xml", "styles"), *((f"xl/worksheets/{n}.xml", "worksheet") for n in names)]
    types = "".join(f'<Override PartName="/{part}" ContentType="{_TYPE}.{kind}+xml"/>' for part, kind in overrides)
    rels = f'<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>{types}'
    xfs = "".join(f'<xf numFmtId="{style}"/>' for style in _STYLES)
    styles = f'<numFmts count="{len(_CODES)}">{_FORMATS}</numFmts>{_FONTS}{_FILLS}<borders count="1"><border/></borders>'
    styles += f'<cellStyleXfs count="1"><xf/></cellStyleXfs><cellXfs count="{len(_STYLES)}">{xfs}</cellXfs>'
    styles += '<cellStyles count="1"><cellStyle name="Normal" xfId="0" builtinId="0"/></cellStyles>'
    sheets = '<sheet name="Data" sheetId="1" r:id="r1"/>'
    sheets += f'<sheet name="{_LIST_SHEET}" sheetId="2" state="hidden" r:id="r2"/>' if lists else ""
    parts = {
        "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">{rels}</Types>',
        "_rels/.rels": _relations([("r1", "officeDocument", "xl/workbook.xml")]),
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>{sheets}</sheets></workbook>',
        "xl/_rels/workbook.xml.rels": _relations(
            [("r9", "styles", "styles.xml"), *((f"r{n}", "worksheet", f"worksheets/{name}.xml") for n, name in enumerate(names, 1))]
        ),
        "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}">{styles}</styleSheet>',
    }
    if lists:
        parts["xl/worksheets/sheet2.xml"] = f'<worksheet xmlns="{_MAIN}"><sheetData>{"".join(_list_rows(lists))}</sheetData></worksheet>'
    return parts


def _relations(found: Iterable[tuple[str, str, str]]) -> str:
    inner = "".join(f'<Relationship Id="{id}" Type="{_OFFICE}/{kind}" Target="{target}"/>' for id, kind, target in found)
    return f'<Relationships xmlns="{_PACKAGE}/relationships">{inner}</Relationships>'


def _list_rows(lists: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield the rows of the hidden sheet that holds the choices, a column for each list."""
    for index in range(max(map(len, lists))):
        yield _row(index + 1, [choices[index] if index < len(choices) else "" for choices in lists], ())


def _sheet(rows: Iterable[Sequence[str]], header: Sequence[Look], columns: Sequence[Column]) -> Iterator[str]:
    yield f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?><worksheet xmlns="{_MAIN}">'
    if header:
        yield '<sheetViews><sheetView workbookViewId="0"><pane ySplit="1" topLeftCell="A2" state="frozen"/></sheetView></sheetViews>'
    if columns:
        cols = (f'<col min="{n}" max="{n}" width="18" customWidth="1" style="{int(c.look)}"/>' for n, c in enumerate(columns, 1))
        yield f"<cols>{''.join(cols)}</cols>"
    yield "<sheetData>"
    numbered = enumerate(rows, 1)
    while block := list(islice(numbered, _ROWS_AT_ONCE)):
        yield "".join([_row(number, row, header if number == 1 else ()) for number, row in block])
    yield f"</sheetData>{_validations(columns)}</worksheet>"


def _row(number: int, cells: Sequence[str], looks: Sequence[Look]) -> str:
    made = []
    for index, value in enumerate(cells):
        if value:
            style = f' s="{int(looks[index])}"' if index < len(looks) else ""
            where = f'<c r="{column_name(index)}{number}"{style}'
            if isinstance(value, ErrorCell):
                made.append(f'{where} t="e"><v>{escape(value)}</v></c>')
            else:
                made.append(f'{where} t="inlineStr"><is><t xml:space="preserve">{_text(value)}</t></is></c>')
    return f'<row r="{number}">{"".join(made)}</row>'


def _text(value: str) -> str:
    return escape(_UNFIT.sub(lambda found: f"_x{ord(found[0]):04X}_", value)).replace("\r", "_x000D_")


def _validations(columns: Sequence[Column]) -> str:
    """Return the lists to choose from, as the sheet's columns refer to those of the hidden sheet."""
    made: list[str] = []
    for index, column in enumerate(columns):
        if column.choices:
            place = column_name(len(made))
            formula = f"{_LIST_SHEET}!${place}$1:${place}${len(column.choices)}"
            cells = f"{column_name(index)}2:{column_name(index)}{_LAST_ROW}"
            rule = f'<dataValidation type="list" allowBlank="1" showErrorMessage="1" sqref="{cells}">'
            made.append(f"{rule}<formula1>{formula}</formula1></dataValidation>")
    return f'<dataValidations count="{len(made)}">{"".join(made)}</dataValidations>' if made else ""
