"""The parts of a workbook's package (a zip of XML files), as streams that are counted while they are read.

What a package says of itself is not believed: sizes are counted as bytes come out, a list of entries too long to be a workbook's is not
read, and XML with a document type (and so with entities) is refused before it has been read any further.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, BinaryIO
from xml.parsers import expat
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

from engine.readers.limits import FREE_EXPANSION, FileRefused, Limits

BLOCK_BYTES = 64 * 1024
_ENTRY_LIST_BYTES = 1024 * 1024  # thousands of entries; a workbook has dozens
_STEP_BYTES = 4096  # parsed at once: each of the cells in it may stand for a shared text of any size
_TOKEN_BYTES = 1024 * 1024  # the longest piece of markup; text may be longer, since it comes in pieces
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"  # how files of the older format, and password-protected ones, begin
_ENCRYPTED = 0x1
_MIDDLE = " "  # between a name's namespace and the name

Start = Callable[[str, dict[str, str]], None]
End = Callable[[str], None]
Chars = Callable[[str], object]


class Package:
    """An opened package. FileRefused for whatever is wrong with it."""

    def __init__(self, stream: BinaryIO, limits: Limits) -> None:
        """`stream` can seek; it stays the caller's to close."""
        self._limits = limits
        self._expanded = 0
        begin = stream.read(len(_OLE))
        if begin == _OLE:
            raise FileRefused("xlsx", "The file is a workbook of the older .xls format, or has a password: save it as .xlsx without one")
        self._size = stream.seek(0, 2)
        stream.seek(0)
        try:
            self._zip = ZipFile(_Guarded(stream))
        except (BadZipFile, OSError, ValueError, NotImplementedError, OverflowError) as error:
            raise FileRefused("xlsx", f"The file is no XLSX workbook: {error}") from error
        self._names = {info.filename.lower(): info for info in self._zip.infolist()}

    def has(self, name: str) -> bool:
        """Tell whether there is a part of this name, which counts whatever its case."""
        return name.lower() in self._names

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of a part."""
        info = self._names.get(name.lower())
        if info is None:
            raise FileRefused("xlsx", f"The file is no XLSX workbook: it has no part {name[:200]}")
        # Other methods may turn a few bytes into gigabytes before we could count them.
        if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED) or info.flag_bits & _ENCRYPTED:
            raise FileRefused("xlsx", f"The part {name[:200]} is encrypted, or compressed in a way that workbooks are not")
        try:
            with self._zip.open(info) as part:
                while block := part.read(BLOCK_BYTES):
                    self._count(len(block))
                    yield block
        except (BadZipFile, EOFError, OSError, zlib.error, RuntimeError, NotImplementedError) as error:
            raise FileRefused("xlsx", f"The workbook is damaged: {error}") from error

    def _count(self, size: int) -> None:
        self._expanded += size
        if self._expanded > self._limits.expanded_bytes:
            raise FileRefused("too_large", f"The file expands to more than the limit of {self._limits.expanded_bytes} bytes")
        if self._expanded > FREE_EXPANSION and self._expanded > self._size * self._limits.expansion_ratio:
            raise FileRefused("expansion", f"The file expands to more than {self._limits.expansion_ratio} times its size")

    def parse(self, name: str, start: Start, end: End | None = None, chars: Chars | None = None) -> Iterator[None]:
        """Parse a part, calling these; yields every few cells, so that the caller can take what has come, or stop."""
        parser = expat.ParserCreate(namespace_separator=_MIDDLE)
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = _refuse_doctype
        parser.StartElementHandler = start
        parser.EndElementHandler = end
        parser.CharacterDataHandler = chars
        fed = 0
        try:
            for block in self.blocks(name):
                for at in range(0, len(block), _STEP_BYTES):
                    parser.Parse(block[at : at + _STEP_BYTES])
                    yield
                fed += len(block)
                if fed - parser.CurrentByteIndex > _TOKEN_BYTES:
                    raise FileRefused("xlsx", f"The part {name[:200]} holds a piece of XML that is too long")
            parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise FileRefused("xlsx", f"The part {name[:200]} is no valid XML: {error}") from error
        yield


class _Guarded:
    """A stream that is never read far at once: the one long read that opening a package makes is that of its list of entries."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.seek, self.tell, self.seekable = stream.seek, stream.tell, stream.seekable

    def read(self, size: int = -1) -> bytes:
        if size > _ENTRY_LIST_BYTES:
            raise FileRefused("xlsx", "The file has more entries than a workbook can have")
        return self._stream.read(size)


def _refuse_doctype(*_: Any) -> None:
    raise FileRefused("xlsx", "The workbook holds XML with a document type or entities, as no workbook does")


@lru_cache(maxsize=256)
def local(name: str) -> str:
    """Return an element's or attribute's name without its namespace.

    >>> local("http://schemas.openxmlformats.org/spreadsheetml/2006/main row"), local("r")
    ('row', 'r')
    """
    return name.rpartition(_MIDDLE)[2]
