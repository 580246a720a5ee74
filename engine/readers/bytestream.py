"""From a stored file to UTF-8 bytes: decompressed within limits, without byte order mark, transcoded where the encoding is another one."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable
from typing import BinaryIO

from backports import zstd

from engine.readers.limits import FREE_EXPANSION, FileRefused, Limits

BLOCK_BYTES = 256 * 1024
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
_BROKEN = (EOFError, OSError, zlib.error, zstd.ZstdError)

Read = Callable[[], bytes]  # returns the next block, b"" at the end


def bare_name(name: str) -> str:
    """Return a file's name in lower case without the ending of its compression.

    >>> bare_name("Flights.CSV.gz")
    'flights.csv'
    """
    return name.lower().removesuffix(".gz").removesuffix(".zst")


def open_blocks(stream: BinaryIO, name: str, encoding: str, limits: Limits) -> tuple[Read, str]:
    """Return what reads a file's blocks as UTF-8, and the encoding that the file turned out to have.

    Wrong bytes come out as wrong UTF-8, so that they stay the fault of their line. FileRefused where the file cannot be decompressed, or
    expands beyond the limits.
    """
    read = _decompressed(stream, name, limits)
    start = read()
    while len(start) < 4 and (more := read()):
        start += more
    for mark, marked_encoding in _BOMS:
        if start.startswith(mark):
            start, encoding = start[len(mark) :], marked_encoding
            break
    first = [start]

    def blocks() -> bytes:
        return first.pop() if first and first[0] else read()

    name_of = codecs.lookup(encoding).name
    if name_of in ("utf-8", "utf-8-sig", "ascii"):
        return blocks, "utf-8"
    return _transcoded(blocks, name_of), name_of


def _decompressed(stream: BinaryIO, name: str, limits: Limits) -> Read:
    lowered = name.lower()
    if not lowered.endswith((".gz", ".zst")):
        return lambda: stream.read(BLOCK_BYTES)
    counted = _Counted(stream)
    opened = gzip.GzipFile(fileobj=counted) if lowered.endswith(".gz") else zstd.ZstdFile(counted)  # type: ignore[call-overload]
    total = 0

    def read() -> bytes:
        nonlocal total
        try:
            block: bytes = opened.read(BLOCK_BYTES)
        except _BROKEN as error:
            raise FileRefused("compression", f"The file cannot be decompressed: {error}") from error
        total += len(block)
        if total > limits.expanded_bytes:
            raise FileRefused("too_large", f"The file expands to more than the limit of {limits.expanded_bytes} bytes")
        if total > FREE_EXPANSION and total > counted.total * limits.expansion_ratio:
            raise FileRefused("expansion", f"The file expands to more than {limits.expansion_ratio} times its size")
        return block

    return read


class _Counted:
    """A stream that knows how many bytes were read of it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.total = stream, 0

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size)
        self.total += len(data)
        return data

    def seekable(self) -> bool:
        return False

    def readable(self) -> bool:
        return True

    @property
    def closed(self) -> bool:
        return self._stream.closed


def _transcoded(read: Read, encoding: str) -> Read:
    """Turn blocks into UTF-8. What is no text becomes a surrogate, which UTF-8 in turn refuses: in its own line, not in the whole file."""
    errors = "surrogatepass" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    is_over = False

    def blocks() -> bytes:
        nonlocal is_over
        while not is_over:
            block = read()
            is_over = not block
            try:
                text = decoder.decode(block, is_over)
            except UnicodeDecodeError as error:
                if not is_over:
                    raise FileRefused("encoding", f"The file is not valid {encoding}: {error.reason}") from error
                text = "\udcff"  # half a character at the very end is the fault of the last line
            if text:
                return text.encode("utf-8", "surrogatepass")
        return b""

    return blocks
