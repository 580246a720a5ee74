"""Helpers for tests of workbooks: small ones put together part by part, so that any part can be wrong."""

import io
import zipfile
from collections.abc import Mapping

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
STYLES = ("0", "14", "22", "20", "46", "164")  # general, date, date with time, time, elapsed, and one of its own
HEADER = '<row r="1"><c r="A1" t="str"><v>a</v></c><c r="B1" t="str"><v>b</v></c><c r="C1" t="str"><v>c</v></c></row>'


def relations(*found: tuple[str, str]) -> str:
    """Return a part that names others: (kind, target) each, with the ids r1, r2 and so on."""
    inner = "".join(f'<Relationship Id="r{n}" Type="{OFFICE}/{kind}" Target="{target}"/>' for n, (kind, target) in enumerate(found, 1))
    return f'<Relationships xmlns="{PACKAGE}">{inner}</Relationships>'


def sheet(rows: str, behind: str = "") -> str:
    """Return a sheet of these rows, as XML."""
    return f'<?xml version="1.0"?><worksheet xmlns="{MAIN}"><sheetData>{rows}</sheetData>{behind}</worksheet>'


def parts(rows: str, *, behind: str = "", texts: str = "", epoch: str = "", code: str = "dd.mm.yyyy") -> dict[str, str]:
    """Return the parts of a workbook with one sheet of these rows."""
    sheets = '<sheets><sheet name="One" sheetId="1" r:id="r1"/></sheets>'
    workbook = f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><workbookPr {epoch}/>{sheets}</workbook>'
    xfs = "".join(f'<xf numFmtId="{number}"/>' for number in STYLES)
    xfs = f'<cellStyleXfs><xf numFmtId="14"/></cellStyleXfs><cellXfs>{xfs}</cellXfs>'
    formats = f'<numFmts><numFmt numFmtId="164" formatCode="{code}"/></numFmts>'
    return {
        "_rels/.rels": relations(("officeDocument", "xl/workbook.xml")),
        "xl/workbook.xml": workbook,
        "xl/_rels/workbook.xml.rels": relations(
            ("worksheet", "worksheets/sheet1.xml"), ("styles", "styles.xml"), ("sharedStrings", "sharedStrings.xml")
        ),
        "xl/styles.xml": f'<styleSheet xmlns="{MAIN}">{formats}{xfs}</styleSheet>',
        "xl/sharedStrings.xml": f'<sst xmlns="{MAIN}">{texts}</sst>',
        "xl/worksheets/sheet1.xml": sheet(rows, behind),
    }


def packed(parts: Mapping[str, str | bytes]) -> bytes:
    """Return the parts as the bytes of a workbook."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as package:
        for name, text in parts.items():
            package.writestr(name, text)
    return file.getvalue()


def workbook(rows: str, **options: str) -> bytes:
    """Return a workbook with one sheet: a header of a, b and c, and these rows below."""
    return packed(parts(HEADER + rows, **options))


def cell(reference: str, value: str, kind: str = "n", style: int = 0) -> str:
    """Return a cell."""
    return f'<c r="{reference}" t="{kind}" s="{style}"><v>{value}</v></c>'


def row(number: int, *cells: str) -> str:
    """Return a row of cells."""
    return f'<row r="{number}">{"".join(cells)}</row>'
