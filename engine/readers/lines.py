"""The physical lines of a file, numbered, in bounded memory, with what is wrong with them."""

from __future__ import annotations

import io
import re
from bisect import bisect_right
from itertools import accumulate

from engine import faults
from engine.faults import Fault
from engine.readers.bytestream import Read, Seek
from engine.readers.limits import Limits

_SURROGATE = re.compile("[\ud800-\udfff]")
_WRONG = re.compile("[\0\ud800-\udfff]")


class Lines:
    """A file's lines, each with its line end (LF, CRLF or a lone CR, as Python's universal newlines); looked at ahead, then dropped."""

    def __init__(self, read: Read, encoding: str, limits: Limits, seek: Seek | None = None) -> None:
        self._seek, self._bytes_read = seek, 0
        self.number = 1  # of the first line that was not dropped
        self.marks: dict[int, Fault] = {}  # what is wrong with lines ahead, by their number
        self.chars_dropped = 0  # characters of the lines before
        self.is_at_end = False  # nothing is left to be read behind the lines ahead
        self._read, self._encoding, self._limit = read, encoding, limits.line_bytes
        self._ahead: list[str] = []
        self._at = 0  # of the first line that was not dropped, in _ahead
        self._chars_ahead = 0
        self._rest: list[bytes] = []  # of a line whose end was not read yet
        self._rest_bytes = 0
        self._is_too_long = False  # the line that is being read is longer than the limit, and is not kept

    def peek(self, count: int, chars: int) -> list[str]:
        """Return up to `count` of the next lines of up to `chars` characters in all, but at least one; [] at the end."""
        while len(self._ahead) - self._at < count and not self.is_at_end and self._chars_ahead < chars:
            self._fill()
        lines = self._ahead[self._at : self._at + count]
        total = 0
        if self._chars_ahead > chars:
            for index, line in enumerate(lines):
                total += len(line)
                if total > chars:
                    return lines[: max(index, 1)]
        return lines

    def drop(self, count: int) -> None:
        """Forget the next lines."""
        end = self._at + count
        chars = sum(map(len, self._ahead[self._at : end]))
        self.chars_dropped += chars
        self._chars_ahead -= chars
        self._at, self.number = end, self.number + count
        if self._at > len(self._ahead) // 2:
            del self._ahead[: self._at]
            self._at = 0
        if self.marks:
            self.marks = {line: mark for line, mark in self.marks.items() if line >= self.number}

    def offset(self) -> int | None:
        """Return where the first line that was not dropped begins, as `skip_to` wants it; None where that is not known."""
        if self._seek is None or self._is_too_long or any(mark.kind is faults.LINE_TOO_LONG for mark in self.marks.values()):
            return None  # of a line that was too long nothing was kept
        ahead = len("".join(self._ahead[self._at :]).encode("utf-8", "surrogateescape"))
        return self._bytes_read - ahead - (0 if self.is_at_end else sum(map(len, self._rest)))

    def place(self) -> dict[str, int]:
        """Return what a reader must know besides the line's number to go on here at once."""
        offset = self.offset()
        return {} if offset is None else {"offset": offset}

    def skip_to(self, number: int, offset: int | None = None) -> None:
        """Forget all lines before this one; at once where it is known at which byte it begins, else by reading them."""
        if offset is not None and self._seek is not None:
            self._seek(offset)
            self.number, self.marks, self.is_at_end, self._bytes_read = number, {}, False, offset
            self._ahead, self._at, self._chars_ahead = [], 0, 0
            self._rest, self._rest_bytes, self._is_too_long = [], 0, False
            return
        while self.number < number:
            lines = self.peek(min(number - self.number, 20_000), 1 << 30)
            if not lines:
                return
            self.drop(len(lines))

    def _fill(self) -> None:
        block = self._read()
        self._bytes_read += len(block)
        if not block:
            self.is_at_end = True
            self._append(b"".join(self._rest))
            return
        if self._rest and self._rest[-1].endswith(b"\r"):
            # The CR may be half of a line end, so it waits for what follows.
            block = b"\r" + block
            self._rest[-1] = self._rest[-1][:-1]
        # A CR at the very end is no line end yet.
        cut = max(block.rfind(b"\n"), block.rfind(b"\r", 0, len(block) - 1)) + 1
        if not cut:
            self._keep(block)
            return
        whole = b"".join([*self._rest, block[:cut]])
        self._rest, self._rest_bytes = [], 0
        self._append(whole)
        self._keep(block[cut:])

    def _keep(self, part: bytes) -> None:
        self._rest_bytes += len(part)
        if self._rest_bytes > self._limit:
            # Only whether a CR ends it must be known of a line that is not kept.
            self._is_too_long, self._rest = True, [part[-1:]]
        elif part:
            self._rest.append(part)

    def _append(self, block: bytes) -> None:
        if not block and not self._is_too_long:
            return
        is_valid = True
        try:
            text = block.decode()
        except UnicodeDecodeError:
            is_valid, text = False, block.decode("utf-8", "surrogateescape")
        lines = list(io.StringIO(text, newline=""))
        first = self.number + len(self._ahead) - self._at
        if not is_valid or "\0" in text:
            self._mark_wrong(text, lines, first)
        if self._is_too_long:
            lines = lines or [""]
            self._mark_too_long(lines, 0, first)
            self._is_too_long = False
        if len(block) > self._limit:
            for index, line in enumerate(lines):
                if len(line.encode("utf-8", "surrogateescape")) > self._limit:
                    self._mark_too_long(lines, index, first)
        self._chars_ahead += len(text)
        self._ahead += lines

    def _mark_too_long(self, lines: list[str], index: int, first: int) -> None:
        self.marks[first + index] = faults.fault(faults.LINE_TOO_LONG, limit=self._limit)
        lines[index] = "\n"

    def _mark_wrong(self, text: str, lines: list[str], first: int) -> None:
        """Mark the lines of a text that hold what none may."""
        ends = list(accumulate(map(len, lines)))
        at = 0
        while match := _WRONG.search(text, at):
            index = bisect_right(ends, match.start())
            if fault := wrong_text(lines[index], self._encoding):
                self.marks.setdefault(first + index, fault)
            at = ends[index]


def wrong_text(text: str, encoding: str) -> Fault | None:
    """Return what no text may hold: a byte that was not valid in the file's encoding (now a surrogate), or NUL."""
    if match := _SURROGATE.search(text):
        found = _byte_of(text[match.start() : match.start() + 3])
        return faults.fault(faults.INVALID_ENCODING, encoding=encoding, found=found, at=match.start() + 1)
    if "\0" in text:
        return faults.fault(faults.NUL_CHARACTER, at=text.index("\0") + 1)
    return None


def _byte_of(text: str) -> str:
    """Name the wrong byte. A surrogate that transcoding made stands there as the three bytes of its own UTF-8."""
    try:
        original = text.encode("utf-8", "surrogateescape").decode("utf-8", "surrogatepass")
    except UnicodeError:
        original = ""
    code = ord(original) if len(original) == 1 else ord(text[0])
    if 0xDC00 <= code <= 0xDCFF:
        return f"byte 0x{code - 0xDC00:02x}"
    return f"a lone surrogate U+{code:04X}"
