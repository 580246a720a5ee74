"""Workbooks that mean harm, or are broken: refused by what comes out of them, never by what they say of themselves."""

import io
import struct
import time
import zipfile

import pytest

from engine import faults
from engine.readers import FileRefused, Limits
from engine.readers.xlsx.package import Package
from tests.reader_parts import chunks, told
from tests.xlsx_parts import HEADER, MAIN, cell, packed, parts, row, sheet, workbook

ZEROS = b" " * (1 << 20)


def refusal(data, **options):
    """Return the code and message with which a workbook is refused."""
    began = time.monotonic()
    with pytest.raises(FileRefused) as refused:
        told(chunks(data, "f.xlsx", **options))
    assert time.monotonic() - began < 10
    return refused.value.code, refused.value.message


def bomb(name, *, times=64):
    """Return a workbook one of whose parts goes on for many megabytes of nothing."""
    of = parts(HEADER)
    return packed({**of, name: of[name][:-1].encode() + ZEROS * times + b">"})


@pytest.mark.parametrize("name", ["_rels/.rels", "xl/workbook.xml", "xl/styles.xml", "xl/sharedStrings.xml", "xl/worksheets/sheet1.xml"])
def test_bombs(name):
    """A few kilobytes that would become many megabytes are refused while they do, whichever part it is (T75)."""
    assert refusal(bomb(name))[0] in ("expansion", "xlsx")


def test_bombs_in_the_cells():
    """So are rows, and what stands behind them, that go on and on; a limit of bytes holds too (T75)."""
    rows = HEADER + "<row><c><v>1</v></c></row>" * 2_000_000
    assert refusal(packed(parts(rows)))[0] == "expansion"
    assert refusal(packed(parts(HEADER, behind="<x/>" * 5_000_000)))[0] == "expansion"
    assert (
        refusal(workbook("".join(row(n, cell(f"A{n}", "1")) for n in range(2, 3000))), limits=Limits(expanded_bytes=20_000))[0]
        == "too_large"
    )


def test_forged_sizes():
    """A part that says it is small gives no more than it says, which is then no valid part; nothing is taken on trust (T75)."""
    data = bytearray(bomb("xl/worksheets/sheet1.xml", times=4))
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        info = package.getinfo("xl/worksheets/sheet1.xml")
    at = data.rindex(b"xl/worksheets/sheet1.xml") - 46  # its entry in the list at the end
    assert struct.unpack_from("<I", data, at + 24)[0] == info.file_size
    struct.pack_into("<I", data, at + 24, 100)
    assert refusal(bytes(data))[0] == "xlsx"


def test_a_million_entries():
    """A list of entries longer than any workbook's is not read (T75)."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as package:
        for name, text in parts(HEADER).items():
            package.writestr(name, text)
        for number in range(20_000):
            package.writestr(zipfile.ZipInfo(f"{number:08}"), b"")
    assert refusal(file.getvalue()) == ("xlsx", "The file has more entries than a workbook can have")


def test_nested_archives():
    """A zip of zips is no workbook, and what lies in it is never unpacked (T75)."""
    assert refusal(packed({"inner.xlsx": workbook("")}))[0] == "xlsx"


LAUGHS = '<!DOCTYPE x [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;&b;">]>'
DOCTYPES = [LAUGHS, '<!DOCTYPE x SYSTEM "file:///etc/passwd">', '<!DOCTYPE x [<!ENTITY a SYSTEM "http://127.0.0.1:9/x">]>', "<!DOCTYPE x>"]


@pytest.mark.parametrize("doctype", DOCTYPES)
@pytest.mark.parametrize("name", ["_rels/.rels", "xl/_rels/workbook.xml.rels", "xl/workbook.xml", "xl/sharedStrings.xml"])
def test_document_types(name, doctype):
    """Document types, and with them entities and all that they could fetch, are refused at once (T76)."""
    of = parts(HEADER)
    began = time.monotonic()
    said = refusal(packed(of | {name: f'<?xml version="1.0"?>{doctype}{of[name]}'}))
    assert said == ("xlsx", "The workbook holds XML with a document type or entities, as no workbook does")
    assert time.monotonic() - began < 1


def test_unknown_entities():
    """An entity that nothing declares is no valid XML."""
    assert refusal(workbook(row(2, cell("A2", "&a;"))))[0] == "xlsx"


@pytest.mark.parametrize(
    "data",
    [b"", b"a,b,c\n1,2,3\n", b"PK\x03\x04", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), workbook("")[:-30], packed({"a": "b"})],
    ids=["empty", "csv", "cut", "ole", "no end", "no workbook"],
)
def test_no_workbooks(data):
    """What is no workbook is refused, and says so."""
    assert refusal(data)[0] == "xlsx"


def test_damaged_workbooks():
    """A flipped bit, a part that is missing, XML that is not well formed, other compressions: the file is refused, with a reason."""
    data = bytearray(workbook("".join(row(n, cell(f"A{n}", str(n))) for n in range(2, 500))))
    with zipfile.ZipFile(io.BytesIO(data)) as package:
        info = package.getinfo("xl/worksheets/sheet1.xml")
    data[info.header_offset + 30 + len(info.filename) + info.compress_size // 2] ^= 0x55
    assert refusal(bytes(data))[0] == "xlsx"
    of = parts(HEADER)
    assert refusal(packed({name: text for name, text in of.items() if name != "xl/worksheets/sheet1.xml"}))[0] == "xlsx"
    assert refusal(packed(of | {"xl/worksheets/sheet1.xml": sheet(HEADER)[:-30]}))[0] == "xlsx"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_LZMA) as package:
        for name, text in of.items():
            package.writestr(name, text)
    assert "compressed in a way" in refusal(file.getvalue())[1]


def test_what_came_before_the_damage_counts():
    """The chunks before the place where a workbook is damaged have been given by then."""
    rows = "".join(row(n, cell(f"A{n}", str(n))) for n in range(2, 5000))
    found = chunks(packed(parts(HEADER + rows + "<row r='9999'><oops>")), "f.xlsx", chunk_records=100)
    assert len(next(found)) == 100
    with pytest.raises(FileRefused, match="no valid XML"):
        list(found)


def test_markup_without_end():
    """One piece of markup that never ends is refused before it has filled the memory."""
    assert "too long" in refusal(workbook(f"<row r='2' x='{'x' * 3_000_000}'/>"), limits=Limits(expansion_ratio=10_000))[1]


def test_merged_regions_without_number():
    """Merged regions beyond all measure, or one over another, are refused."""
    one = '<mergeCell ref="A1:XFD9"/>'
    assert "overlap" in refusal(workbook(row(2, cell("A2", "1")), behind=f"<mergeCells>{one}{one}</mergeCells>"))[1]


def test_compressed_once_more():
    """A workbook that was compressed once more is not read."""
    with pytest.raises(FileRefused, match="compressed already"):
        told(chunks(workbook(""), "f.xlsx.gz"))


def test_a_text_without_end():
    """A cell whose text goes on and on costs its own row, not the memory."""
    text = "".join(map(str, range(700_000)))
    data = workbook(row(2, cell("A2", text, "str")) + row(3, cell("A3", "1")))
    assert [said for _, said in told(chunks(data, "f.xlsx"))] == [faults.FIELD_TOO_LONG, {"a": "1", "b": "", "c": ""}]


def test_parts_are_found_whatever_their_case():
    """Names of parts count whatever their case, as they do in spreadsheet programs."""
    of = parts(HEADER)
    of["XL/SharedStrings.xml"] = of.pop("xl/sharedStrings.xml")
    assert Package(io.BytesIO(packed(of)), Limits()).has("xl/sharedstrings.xml")
    assert MAIN in str(of["XL/SharedStrings.xml"])
