"""What a workbook says of itself: its sheets, its epoch, which styles show dates, its shared texts."""

from __future__ import annotations

import posixpath
import re
from array import array
from collections.abc import Callable
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, BinaryIO, NamedTuple

from engine.readers.limits import FileRefused, Limits
from engine.readers.xlsx.package import Package, local
from engine.readers.xlsx.values import Shown, shown_by

_IN_MEMORY = 8 * 1024 * 1024  # characters of shared texts; further ones go to a file
_MOST_TEXTS = 10_000_000
_MOST_STYLES = 100_000
_MOST_SHEETS = 10_000
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")


class SheetEntry(NamedTuple):
    """One of a workbook's sheets, in their order."""

    name: str
    is_visible: bool
    part: str


class Texts:
    """The texts that cells share, by number. The first ones are kept in memory, the others in a temporary file. None: too long to keep."""

    def __init__(self, most_chars: int) -> None:
        self._most_chars = most_chars
        self._kept: list[str | None] = []
        self._free = _IN_MEMORY
        self._file: IO[bytes] | None = None
        self._ends = array("Q", [0])  # of the texts in the file

    def add(self, text: str | None) -> None:
        """Add the next text."""
        if len(self._kept) + len(self._ends) > _MOST_TEXTS:
            raise FileRefused("xlsx", f"The workbook holds more than {_MOST_TEXTS} texts")
        size = len(text or "")
        if self._file is None and self._free >= size:
            self._free -= size + 16
            self._kept.append(text)
            return
        if self._file is None:
            self._file = TemporaryFile()  # noqa: SIM115  close() ends it
        # The mark before each tells a text that is too long from one of no characters.
        data = b"0" if text is None else b"1" + text.encode("utf-8", "surrogatepass")
        self._file.write(data)
        self._ends.append(self._ends[-1] + len(data))

    def __getitem__(self, number: int) -> str | None:
        """Return a text; IndexError where there is none of this number."""
        if number < 0:
            raise IndexError(number)
        if number < len(self._kept):
            return self._kept[number]
        place = number - len(self._kept)
        begin, end = self._ends[place], self._ends[place + 1]
        assert self._file is not None  # noqa: S101  it holds this text
        self._file.seek(begin)
        data = self._file.read(end - begin)
        return data[1:].decode("utf-8", "surrogatepass") if data[:1] == b"1" else None

    def close(self) -> None:
        """Drop the temporary file."""
        if self._file is not None:
            self._file.close()


@dataclass(slots=True)
class Book:
    """An opened workbook."""

    package: Package
    sheets: list[SheetEntry]
    is_1904: bool
    styles: list[Shown]
    texts: Texts

    def sheet(self, wanted: str | None) -> SheetEntry:
        """Return the sheet of this name or number (from 1), or else the first that is not hidden. FileRefused where there is none."""
        found = [s for s in self.sheets if s.name == wanted] or [s for s in self.sheets if s.name.casefold() == (wanted or "").casefold()]
        if wanted is None:
            found = [s for s in self.sheets if s.is_visible] or self.sheets
        elif not found and wanted.isdecimal() and 1 <= int(wanted) <= len(self.sheets):
            found = [self.sheets[int(wanted) - 1]]
        if not found:
            names = ", ".join(s.name for s in self.sheets[:20])
            raise FileRefused("sheet", f"The workbook has no sheet '{wanted}' (it has: {names})" if wanted else "The workbook has no sheet")
        return found[0]


def open_book(stream: BinaryIO, limits: Limits) -> Book:
    """Open a workbook. Nothing but the parts that are needed is read. FileRefused where it is none, or not a sound one."""
    package = Package(stream, limits)
    part = next((target for kind, target in _related(package, "").values() if kind == "officeDocument"), "xl/workbook.xml")
    related = _related(package, part)
    sheets, is_1904 = _sheets(package, part, related)
    by_kind = dict(related.values())
    styles = _styles(package, by_kind["styles"]) if package.has(by_kind.get("styles", "")) else []
    texts = Texts(limits.field_chars)
    if package.has(by_kind.get("sharedStrings", "")):
        _read_texts(package, by_kind["sharedStrings"], texts, limits.field_chars)
    return Book(package, sheets, is_1904, styles, texts)


def _related(package: Package, part: str) -> dict[str, tuple[str, str]]:
    """Return what a part (the package itself: "") refers to: by id the kind, and the part's name."""
    folder, _, name = part.rpartition("/")
    found: dict[str, tuple[str, str]] = {}

    def start(name: str, attributes: dict[str, str]) -> None:
        if local(name) == "Relationship" and attributes.get("TargetMode") != "External" and len(found) < _MOST_SHEETS:
            target = posixpath.normpath(posixpath.join("/", folder, attributes.get("Target", ""))).lstrip("/")
            found[attributes.get("Id", "")] = (attributes.get("Type", "").rpartition("/")[2], target)

    _read(package, posixpath.join(folder, "_rels", f"{name}.rels"), start)
    return found


def _sheets(package: Package, part: str, related: dict[str, tuple[str, str]]) -> tuple[list[SheetEntry], bool]:
    sheets: list[SheetEntry] = []
    is_1904 = False

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal is_1904
        name = local(name)
        if name == "workbookPr":
            is_1904 = attributes.get("date1904", "0").strip().lower() in ("1", "true", "on")
        elif name == "sheet":
            identity = next((value for key, value in attributes.items() if key.endswith("/relationships id")), "")
            kind, target = related.get(identity, ("", ""))
            if kind == "worksheet" and len(sheets) < _MOST_SHEETS:
                sheets.append(SheetEntry(attributes.get("name", ""), attributes.get("state", "visible") == "visible", target))

    _read(package, part, start)
    return sheets, is_1904


def _styles(package: Package, part: str) -> list[Shown]:
    """Return, for each style that a cell may name, what its number format shows."""
    formats: dict[str, str] = {}
    found: list[Shown] = []
    is_inside = False

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal is_inside
        name = local(name)
        if name == "cellXfs":
            is_inside = True
        elif name == "numFmt" and len(formats) < _MOST_STYLES:
            formats[attributes.get("numFmtId", "")] = attributes.get("formatCode", "")[:1000]
        elif name == "xf" and is_inside and len(found) < _MOST_STYLES:
            number = attributes.get("numFmtId", "0")
            found.append(shown_by(number, formats.get(number)))

    def end(name: str) -> None:
        nonlocal is_inside
        is_inside = is_inside and local(name) != "cellXfs"

    for _ in package.parse(part, start, end):
        pass
    return found


def _read_texts(package: Package, part: str, texts: Texts, most_chars: int) -> None:
    gathered = Gathered(most_chars)
    depth = 0  # of what is no text of the cell's: how its characters are pronounced

    def start(name: str, _: dict[str, str]) -> None:
        nonlocal depth
        name = local(name)
        if name == "si":
            gathered.clear()
        elif name == "rPh":
            depth += 1
        elif name == "t" and not depth:
            gathered.is_open = True

    def end(name: str) -> None:
        nonlocal depth
        name = local(name)
        gathered.is_open = False
        if name == "si":
            texts.add(gathered.text())
        elif name == "rPh":
            depth -= 1

    for _ in package.parse(part, start, end, gathered.add):
        pass


def _read(package: Package, part: str, start: Callable[[str, dict[str, str]], None]) -> None:
    for _ in package.parse(part, start):
        pass


class Gathered:
    """A text that comes in pieces, of which no more is kept than a cell may hold."""

    def __init__(self, most_chars: int) -> None:
        self._most_chars = most_chars
        self.is_open = False
        self.clear()

    def clear(self) -> None:
        """Begin a new text."""
        self._pieces: list[str] = []
        self._chars = 0

    def add(self, piece: str) -> None:
        """Take a piece, if one is expected."""
        if self.is_open:
            self._chars += len(piece)
            if self._chars <= self._most_chars:
                self._pieces.append(piece)

    def text(self) -> str | None:
        """Return the text, what is escaped in it put back; None where it is too long."""
        return unescaped("".join(self._pieces)) if self._chars <= self._most_chars else None


def unescaped(text: str) -> str:
    """Return a text with `_xHHHH_` turned into the characters that XML itself cannot hold.

    >>> unescaped("a_x0009_b _x005F_x0041_")
    'a\\tb _x0041_'
    """
    if "_x" not in text:
        return text
    text = _ESCAPED.sub(lambda found: chr(int(found[1], 16)), text)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
