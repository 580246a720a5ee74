"""What bounds a reader, and how it refuses a file."""

from __future__ import annotations

from dataclasses import dataclass

from errors import LadingError

FREE_EXPANSION = 16 * 1024 * 1024  # bytes: small files may be as compressible as they like


@dataclass(frozen=True, slots=True)
class Limits:
    """How large the parts of a file may be."""

    field_chars: int = 1024 * 1024  # the longest field, in characters
    columns: int = 2_000
    line_bytes: int = 16 * 1024 * 1024  # the longest record
    expansion_ratio: int = 100  # how many times its size a compressed file may expand to
    expanded_bytes: int = 50 * 1024**3


class FileRefused(LadingError):
    """A file cannot be read as a whole, or not beyond this line; `code` is a stable word, `line` 1-based (None: the whole file)."""

    def __init__(self, code: str, message: str, line: int | None = None) -> None:
        self.code, self.message, self.line = code, message, line
        self.file_index = -1  # set by whoever knows the batch
        super().__init__(message)
