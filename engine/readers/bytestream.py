"""From a stored file to UTF-8 bytes: decompressed within limits, without byte order mark, transcoded where the encoding is another one."""

from __future__ import annotations

import codecs
import gzip
import zlib
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO

from backports import zstd

from engine.readers.limits import FREE_EXPANSION, FileRefused, Limits

BLOCK_BYTES = 256 * 1024
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"),
)  # fmt: skip
_PACKED = (
    (b"\x1f\x8b", "it is compressed with gzip, and its name does not end in .gz"),
    (b"\x28\xb5\x2f\xfd", "it is compressed with Zstandard, and its name does not end in .zst"),
    (b"PK\x03\x04", "it is a workbook or an archive, not text"),
)
_BROKEN = (EOFError, OSError, zlib.error, zstd.ZstdError)

_IN_ITS_LINE = "lading-in-its-line"  # how decoders treat what is no text

Read = Callable[[], bytes]  # returns the next block, b"" at the end
Seek = Callable[[int], None]  # has the next block begin so many bytes behind the byte order mark


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
    read, encoding, _ = open_seekable_blocks(stream, name, encoding, limits)
    return read, encoding


def open_seekable_blocks(stream: BinaryIO, name: str, encoding: str, limits: Limits) -> tuple[Read, str, Seek | None]:
    """Do as open_blocks; also return what goes to another place, where the file's bytes are those of the blocks and the stream can seek."""
    read = decompressed(stream, name, limits)
    start = read()
    while len(start) < 4 and (more := read()):
        start += more
    mark_bytes = 0
    for mark, marked_encoding in _BOMS:
        if start.startswith(mark):
            start, encoding, mark_bytes = start[len(mark) :], marked_encoding, len(mark)
            break
    first = [start]

    def blocks() -> bytes:
        return first.pop() if first and first[0] else read()

    def seek(offset: int) -> None:
        first.clear()
        stream.seek(mark_bytes + offset)

    name_of = codecs.lookup(encoding).name
    if name_of in ("utf-8", "utf-8-sig", "ascii"):
        for magic, why in _PACKED:
            if start.startswith(magic):
                raise FileRefused("compression", f"The file cannot be read as it is called: {why}")
        is_direct = bare_name(name) == name.lower() and stream.seekable()
        return blocks, "utf-8", seek if is_direct else None
    if name_of in ("utf-16", "utf-32") and start:
        raise FileRefused("encoding", f"The file has no byte order mark: its encoding must be {name_of}-le or {name_of}-be")
    return _transcoded(blocks, name_of), name_of, None


def decompressed(stream: BinaryIO, name: str, limits: Limits) -> Read:
    """Return what reads a file's blocks, unpacked where its name says that it is compressed; both it and they raise FileRefused."""
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
        while 0 < len(data) < size and (more := self._stream.read(size - len(data))):
            data += more  # gzip takes a short read for the end
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
    decoder = codecs.getincrementaldecoder(encoding)(_IN_ITS_LINE)
    is_over = False

    def blocks() -> bytes:
        nonlocal is_over
        while not is_over:
            block = read()
            is_over = not block
            if text := _decoded(decoder, block, is_over):
                return text.encode("utf-8", "surrogatepass")
        return b""

    return blocks


def _decoded(decoder: codecs.IncrementalDecoder, block: bytes, is_over: bool) -> str:
    """Decode a block. A decoder that waits too long for the end of an escape sequence raises: then its first byte is no text."""
    state = decoder.getstate()
    try:
        return decoder.decode(block, is_over)
    except UnicodeError:
        decoder.setstate(state)
    if len(block) > 1:
        return "".join(_decoded(decoder, block[n : n + 1], False) for n in range(len(block))) + _decoded(decoder, b"", is_over)
    decoder.setstate((b"", state[1]))
    return chr(0xDC00 + state[0][0]) + _decoded(decoder, state[0][1:] + block, is_over)


def _as_surrogate(error: UnicodeError) -> tuple[str, int]:
    """Take half a character of UTF-16 for what it is, and the first byte of what is no text at all for U+DC00 and that byte."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    is_wide = error.encoding.startswith(("utf-16", "utf-32"))
    if is_wide:
        with suppress(UnicodeDecodeError):
            half, end = codecs.lookup_error("surrogatepass")(error)
            return str(half), end
    # Where characters are bytes, what follows the first wrong one may be the line's end.
    return chr(0xDC00 + error.object[error.start]), error.end if is_wide else error.start + 1


codecs.register_error(_IN_ITS_LINE, _as_surrogate)
