"""Errors that cross our packages: what a caller did wrong (Refusal) and what went wrong here (the rest).

What is wrong with a *record* is no exception but a fault: see engine/faults.py.
"""

import errno
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a request or a control file, with where it stands and what would have been right."""

    message: str
    path: str = ""  # a field's name, or a path in a control file such as `entities[0].mappings[2].converter.type`
    line: int | None = None  # 1-based physical line of the control file
    allowed: tuple[str, ...] = ()  # the names or values that would have been accepted

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line else ""
        path = f"{self.path}: " if self.path else ""
        allowed = f" (allowed: {', '.join(self.allowed)})" if self.allowed else ""
        return f"{where}{path}{self.message}{allowed}"


def nearest(name: str, names: Iterable[str], most: int = 10) -> tuple[str, ...]:
    """Return the names that could be used instead of a wrong one, those most like it first.

    Likeness is that of their letters and pairs of letters, whatever their case: cheap enough for thousands of names and hundreds of faults.

    >>> nearest("carier", ["flight", "Carrier", "name"], most=2)
    ('Carrier', 'name')
    """
    wanted = _pairs(name[:_COMPARED_CHARS])
    return tuple(sorted(set(names), key=lambda n: (-_likeness(wanted, _pairs(n[:_COMPARED_CHARS])), n))[:most])


def _likeness(wanted: frozenset[str], other: frozenset[str]) -> float:
    return len(wanted & other) / (len(wanted) + len(other))


# What is cached is bounded in size as well as in number: names that callers send may be very long, and alike ones show it in less.
_COMPARED_CHARS = 200


@lru_cache(maxsize=10_000)
def _pairs(name: str) -> frozenset[str]:
    text = f" {name.casefold().replace('_', '')} "
    return frozenset([*text, *map("".join, pairwise(text))])


class LadingError(Exception):
    """The root of every exception that Lading raises itself."""


@dataclass(eq=False)
class Refusal(LadingError):
    """A request that cannot be carried out as it stands; `status` is the HTTP status, `code` a stable word."""

    status: int
    code: str
    detail: str
    problems: Sequence[Problem] = ()
    headers: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return "\n".join([self.detail, *map(str, self.problems)])


class ControlFileInvalid(LadingError):
    """A control file has faults; `problems` holds all of them (of more than a thousand the first), in the order of their lines."""

    MOST = 1000

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = sorted(problems, key=lambda p: p.line or 0)
        if len(self.problems) > self.MOST:
            self.problems[self.MOST :] = [Problem(f"and {len(self.problems) - self.MOST} faults more")]
        super().__init__("\n".join(map(str, self.problems)))


class SettingInvalid(LadingError):
    """A setting is missing or bad; the message names the variable, the value and what is allowed."""


class SpoolFull(LadingError):
    """The spool's disk has no room for what was being stored; nothing of it was kept."""


class SpoolUnavailable(LadingError, OSError):
    """The object store that holds the spool fails, or cannot be reached; what was being stored may be sent again."""


class DigestMismatch(LadingError):
    """Bytes do not have the digest that was said of them; nothing was stored, or what is stored was altered."""

    def __init__(self, expected: str, actual: str) -> None:
        self.expected, self.actual = expected, actual
        super().__init__(f"expected the SHA-256 digest {expected}, but the bytes have {actual}")


class DigestUnknown(LadingError):
    """The spool holds nothing under this digest."""


class UploadUnknown(LadingError):
    """There is no upload in parts of this id, or none any more."""

    def __init__(self, upload_id: str) -> None:
        super().__init__(f"there is no upload {upload_id[:80]!r}")


class UploadHeld(LadingError):
    """Another request is writing to this upload in parts."""


class TooLarge(LadingError):
    """More bytes than a limit allows; `limit` is in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"larger than the limit of {limit} bytes")


class TooSlow(LadingError, ConnectionResetError):
    """A client sends so slowly that its connection is given up; to a server it is as good as gone."""

    def __init__(self, pace: str) -> None:
        super().__init__(errno.ECONNRESET, f"the client was too slow: {pace}")


class LeaseLost(LadingError):
    """Another worker has taken this run over (the fence in its head is no longer ours); stop, and write nothing more."""


class TargetUnavailable(LadingError):
    """The target failed in a way that is not about the data (gone, full, deadlocked); the attempt ends and is tried again."""


class TargetLocked(TargetUnavailable):
    """Another session kept what the run needs locked for longer than it is waited for."""
