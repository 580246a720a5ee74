"""One JSON array of objects, read in flat memory. Its records are numbered by their place in the array, from 1."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator

from engine import faults
from engine.chunk import Chunk
from engine.readers.limits import FileRefused
from engine.readers.lines import wrong_text
from engine.readers.objects import DECODER, SPACE, Elements
from engine.readers.task import Task

_OUTSIDE = re.compile(r'["\[\]{},]')
_INSIDE = re.compile(r'["\\]')


def read_array(task: Task, objects: Elements) -> Iterator[Chunk]:
    """Yield the chunks of a file that is one JSON array, its elements gathered by `objects`.

    An element that is no valid record costs only itself, as long as its brackets and quotes are in pairs. Where they are not, nobody can
    say where the next element begins: FileRefused.
    """
    if refused := task.resume.get("refused"):
        raise FileRefused(*refused)
    scanner = _Scanner(task)
    refusal: FileRefused | None = None
    while not scanner.is_over and refusal is None:
        chars = scanner.consumed + task.chunk_bytes
        try:
            while (most := task.chunk_records - len(objects.lines)) > 0 and (room := chars - scanner.consumed) > 0:
                if not scanner.take(objects, most, room):
                    break
        except FileRefused as lost:
            refusal = lost  # what was read before it still counts
        if objects.lines:
            state = {
                "offset": scanner.offset(),
                "is_over": scanner.is_over,
                "refused": refusal and [refusal.code, refusal.message, refusal.line],
            }
            yield objects.chunk(scanner.number, state)
        objects.clear()
    if refusal:
        raise refusal


class _Scanner:
    """Walks along the array. Only the element in hand is in memory."""

    def __init__(self, task: Task) -> None:
        self.number = 1  # of the next element
        self.consumed = 0  # characters behind us
        self.is_over = False
        self._task = task
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self._text, self._at, self._bytes = "", 0, 0
        self._is_at_end = False
        self._is_clean = True  # nothing in _text is wrong in itself
        if task.resume:
            self._go_on(task.resume["offset"], task.resume["is_over"])
        else:
            self._begin()

    def offset(self) -> int:
        """Return where the last element ends, in bytes of the file as UTF-8."""
        # A character whose bytes are not all there yet waits in the decoder.
        waiting = len(self._decoder.getstate()[0])
        return self._bytes - waiting - len(self._text[self._at :].encode("utf-8", "surrogateescape"))

    def _begin(self) -> None:
        if self._peek() != "[":
            if not self._text.strip(SPACE) and self._is_at_end:
                self.is_over = True
                return
            raise FileRefused("json", "The file is not a JSON array: it does not begin with [", 1)
        self._step(1)
        if self._peek() == "]":
            self._end()

    def _go_on(self, offset: int, is_over: bool) -> None:
        self.number, self.is_over = self._task.start_line, is_over
        if self._task.seek is not None:
            self._task.seek(offset)
            self._bytes = offset
            return
        while self._bytes < offset:
            block = self._task.read()
            if not block:
                return
            self._bytes += len(block)
            if self._bytes > offset:
                self._add(block[len(block) - (self._bytes - offset) :])

    def _more(self) -> bool:
        """Read another block; False at the end of the file."""
        if self._is_at_end:
            return False
        block = self._task.read()
        self._bytes += len(block)
        self._is_at_end = not block
        self._add(block)
        return bool(block)

    def _add(self, block: bytes) -> None:
        text = self._decoder.decode(block, self._is_at_end)
        self._text, self._at = self._text[self._at :] + text, 0
        self._is_clean = self._text.isascii() or wrong_text(self._text, "") is None
        if "\0" in text:
            self._is_clean = False

    def _step(self, count: int) -> None:
        self._at += count
        self.consumed += count

    def _peek(self) -> str:
        """Return the next character that is no space, without taking it; "" at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in SPACE:
                self._step(1)
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, objects: Elements, most: int, room: int) -> bool:
        """Take the next element, or more that are written alike (see Elements.take_alike); False behind the last one."""
        if self.number > 1 and not self._take_comma():
            return False
        if not self._peek():
            raise self._lost("the file ends within the array")
        if self._is_clean:
            count, end = objects.take_alike(self.number, self._text, self._at, most, room)
            if count:
                self._step(end - self._at)
                self.number += count
                return True
        if not (self._is_clean and self._text[self._at] == "{" and self._take_plain(objects)):
            self._take_carefully(objects)
        self.number += 1
        return True

    def _take_comma(self) -> bool:
        """Take the comma before an element; False where the array ends instead."""
        following = self._peek()
        if following == ",":
            self._step(1)
            return True
        if following != "]":
            raise self._lost(f"a comma is missing, '{following}' follows" if following else "the file ends within the array")
        self._end()
        return False

    def _take_plain(self, objects: Elements) -> bool:
        """Decode an object that is whole and valid; False where it is not, or not yet."""
        try:
            value, end = DECODER.raw_decode(self._text, self._at)
        except (ValueError, RecursionError):
            return False
        size = end - self._at
        if size > self._task.limits.line_bytes:
            return False
        objects.add_value(self.number, value, size)
        objects.seen(self._text[self._at : end])
        self._step(size)
        return True

    def _take_carefully(self, objects: Elements) -> None:
        """Find where the element ends by brackets and quotes alone, then decode it."""
        size = self._find_end()
        text = self._text[self._at : self._at + size].rstrip(SPACE)
        self._step(size)
        if fault := wrong_text(text, self._task.encoding):
            objects.add_fault(self.number, fault)
        elif not text.strip(SPACE):
            raise self._lost("an element is missing")
        elif len(text) > self._task.limits.line_bytes:
            objects.add_fault(self.number, faults.fault(faults.LINE_TOO_LONG, limit=self._task.limits.line_bytes))
        else:
            objects.add(self.number, text)

    def _find_end(self) -> int:
        """Return the size of the element, reading on as need be. What is in brackets ends with them, whatever follows."""
        depth, is_inside, looked = 0, False, 0  # `looked`: characters of the element behind us
        is_bracketed = self._text[self._at] in "[{"
        while True:
            match = (_INSIDE if is_inside else _OUTSIDE).search(self._text, self._at + looked)
            if match is None:
                looked = len(self._text) - self._at
            elif is_inside:
                is_inside = match[0] == "\\"
                looked = match.end() - self._at + is_inside  # what a backslash escapes never ends a text
                if looked <= len(self._text) - self._at:
                    continue
            else:
                mark = match[0]
                if depth == 0 and mark in ",]}":
                    return self._bounded(match.start() - self._at)
                depth += (mark in "[{") - (mark in "]}")
                is_inside, looked = mark == '"', match.end() - self._at
                if depth == 0 and is_bracketed:
                    return self._bounded(looked)
                continue
            self._bounded(looked)
            if not self._more():
                raise self._lost("the file ends within it")

    def _bounded(self, size: int) -> int:
        limit = self._task.limits.line_bytes
        if size > 2 * limit:
            raise self._lost(f"it is longer than the limit of {limit} bytes, or its quotes are not in pairs")
        return size

    def _end(self) -> None:
        self._step(1)
        self.is_over = True
        if self._peek():
            raise self._lost("something follows the array's end")

    def _lost(self, reason: str) -> FileRefused:
        return FileRefused("json", f"The JSON array cannot be followed beyond element {self.number}: {reason}", self.number)
