"""What is fuzzed: each target takes any bytes, and asserts what holds of them all. The first bytes choose the options."""

from __future__ import annotations

import csv
import gzip
import io
import sqlite3
import tempfile
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

from backports import zstd

from engine.control import compile
from engine.converters import CONVERTERS, OptionInvalid, build
from engine.readers import FileRefused, Limits
from engine.tables import Column, Kind
from engine.target import open_target
from errors import ControlFileInvalid
from schemas.control import parse
from tests.control_parts import SCHEMA, Made
from tests.reader_parts import chunks, facts, row, told

LIMITS = Limits(field_chars=60, columns=12, line_bytes=300, expanded_bytes=1 << 20)
ENCODINGS = ("utf-8", "utf-8", "cp1252", "utf-16", "shift_jis", "utf-16-le", "iso2022_jp", "utf-32")
SEPARATORS = ("", ";", "\t", "|")
QUOTES = ('"', "'", "")


def _collected(data: bytes, name: str, **options: Any) -> tuple[list[Any], tuple[str, str, int | None] | None]:
    """Read to the end: the chunks, and how the file was refused, if it was."""
    found = []
    try:
        for chunk in chunks(data, name, limits=LIMITS, **options):
            found.append(chunk)
    except FileRefused as refused:
        return found, (refused.code, refused.message, refused.line)
    return found, None


def _read_every_way(data: bytes, name: str, how: int, **options: Any) -> list[Any]:
    """Read a file whole, in small chunks of small reads, and from behind each chunk: all must say the same. Return what they say."""
    whole, refused = _collected(data, name, **options)
    said = told(whole)
    assert [line for line, _ in said] == sorted(line for line, _ in said)
    small = options | {"chunk_records": 1 + how % 5}
    found, refused_too = _collected(data, name, trickle=1 + how % 7, **small)
    assert (told(found), refused_too) == (said, refused)
    if how % 2:
        small["trickle"] = 1 + how % 7  # a stream that cannot seek: all before is read again
    found, _ = _collected(data, name, **small)
    for number, chunk in enumerate(found[:20]):
        go_on = {
            "start_line": chunk.next_line, "first_record": chunk.first_record + len(chunk), "first_chunk_number": number + 1,
            "resume": chunk.resume,
        }  # fmt: skip
        rest, refused_too = _collected(data, name, go_on=go_on, **small)
        assert ([facts(c) for c in rest], refused_too) == ([facts(c) for c in found[number + 1 :]], refused)
    return said


def delimited(data: bytes) -> None:
    """CSV and TSV: each line has its say, however the file is cut; what the csv module can read whole comes out as it says."""
    head, body = data[:3].ljust(3, b"\0"), data[3:]
    name = "f.tsv" if head[0] & 1 else "f.csv"
    options: dict[str, Any] = {"encoding": ENCODINGS[head[1] % 8], "has_header": not head[0] & 2, "quote": QUOTES[head[1] // 8 % 3]}
    if separator := SEPARATORS[head[0] // 4 % 4]:
        options["separator"] = separator
    said = _read_every_way(body, name, head[2], **options)
    if head[:2] == b"\0\0":
        _compare_with_csv(body, said)


def _compare_with_csv(body: bytes, said: list[Any]) -> None:
    try:
        text = body.decode()
        header, *rows = list(csv.reader(io.StringIO(text, newline=""), strict=True)) or [[]]
    except (UnicodeDecodeError, csv.Error):
        return
    plain = not body.startswith((b"sep=", b"\xef\xbb\xbf")) and "\0" not in text and len(body) < LIMITS.field_chars
    rows = [cells for cells in rows if cells and (len(cells) > 1 or cells[0].strip())]
    if plain and header == ["a", "b", "c"] and all(len(cells) == 3 for cells in rows):
        assert [values for _, values in said] == [row(*cells) for cells in rows]


def multi_entity(data: bytes) -> None:
    """The multi-entity form: rows below `!` and `#` lines mean the same wherever reading goes on."""
    head, body = data[:2].ljust(2, b"\0"), data[2:]
    _read_every_way(body, "f.txt", head[1], entity=None, action=None, ordered=bool(head[0] & 1))


def json_files(data: bytes) -> None:
    """JSON Lines and JSON arrays: each record has its say, or the file is refused from where nobody can follow it."""
    head, body = data[:2].ljust(2, b"\0"), data[2:]
    _read_every_way(body, "f.json" if head[0] & 1 else "f.jsonl", head[1], encoding=ENCODINGS[head[0] // 2 % 8])


def compressed(data: bytes) -> None:
    """Compressed files: whole ones read as what is in them; cut, altered or made up ones are refused, never half believed."""
    head, body = data[:3].ljust(3, b"\0"), data[3:]
    ending, pack = ((".gz", gzip.compress), (".zst", zstd.compress))[head[0] & 1]
    options = {"trickle": 1 + head[1] % 50} if head[1] % 3 == 0 else {}
    name = "f.csv" + ending
    packed = pack(body)
    match head[0] // 2 % 4:
        case 0:
            assert told(_collected(packed, name, **options)[0]) == told(_collected(body, "f.csv")[0])
        case 1:
            _, refused = _collected(packed[: head[2] * len(packed) // 256], name, **options)
            assert refused or head[2] * len(packed) // 256 == 0
        case 2:
            _collected(packed + body, name, **options)
        case 3:
            _collected(body, name, **options)


def converters(data: bytes) -> None:
    """Converters: a column comes out as its values do alone; what comes out goes in again unchanged; options are taken or refused."""
    head, body = data[:4].ljust(4, b"\0"), data[4:]
    kinds = list(Kind)
    dialect = ("postgresql", "sqlite")[head[1] & 1]
    column = Column(
        "c", kinds[head[0] % len(kinds)], "t", "text", max_length=(None, 5)[head[1] // 2 & 1], precision=(None, 6)[head[1] // 4 & 1],
        scale=(None, 2)[head[1] // 4 & 1], bits=(64, 16)[head[1] // 8 & 1], labels=("on", "off"),
        element=Column("c", kinds[head[1] // 16], "t", "text") if kinds[head[1] // 16] is not Kind.ARRAY else None,
        affinity=("TEXT", "NUMERIC", "INTEGER", "REAL", "BLOB")[head[3] % 5] if dialect == "sqlite" else None,
    )  # fmt: skip
    option, *values = body.decode("utf-8", "surrogateescape" if head[3] & 64 else "replace").split("\x1f")
    types = [None, *CONVERTERS]
    type_, names = types[head[2] % len(types)], ("format", "thousands", "timezone", "pattern", "true", "decimal", "maxLength")
    options: dict[str, Any] = {names[head[3] % len(names)]: [option] if head[3] & 32 else option} if option.isprintable() and option else {}
    try:
        convert = build(type_, options, column, name="c", dialect=dialect)
    except OptionInvalid:
        return
    together, wrong = convert(values)
    for at, value in enumerate(values[:30]):
        alone, wrong_alone = convert([value])
        assert alone[0] == together[at] and wrong_alone.get(0) == wrong.get(at)
        assert at not in wrong or together[at] is None
    if type_ is None and not options:
        again, wrong_again = convert(together)
        assert (list(again), wrong_again) == (list(together), {}) or dialect == "sqlite"


@cache
def _made() -> Made:
    path = Path(tempfile.mkdtemp(prefix="lading-fuzz")) / "target.db"
    with closing(sqlite3.connect(path)) as made:
        made.executescript(SCHEMA.replace("BINARY_TYPE", "blob"))
    target = open_target(f"sqlite:///{path}")
    return Made(target.tables(), target.dialect)


def control(data: bytes) -> None:
    """Control files: read and compiled, or refused with faults that each have a line of the file and a bounded length."""
    made = _made()
    try:
        compile(parse(data), made.tables, made.dialect)
    except ControlFileInvalid as invalid:
        assert invalid.problems
        for problem in invalid.problems:
            assert problem.line is None or 1 <= problem.line <= data.count(b"\n") + data.count(b"\r") + 2
            assert len(str(problem)) < 5_000


TARGETS: dict[str, Callable[[bytes], None]] = {
    "delimited": delimited, "multi-entity": multi_entity, "json": json_files, "compressed": compressed, "converters": converters,
    "control": control,
}  # fmt: skip
