"""Hostile files and control files through the whole road: web process, worker, table, and back out again."""

from __future__ import annotations

import gzip
import hmac
import time
import tracemalloc
from io import BytesIO

import pytest
from backports import zstd

from catalog import batches, controls, keys
from engine.readers import FileRefused, Limits
from engine.readers.bytestream import open_blocks
from errors import _pairs, nearest
from schemas.requests import BatchesQuery, BatchRequest, check
from tests.engine_parts import sql
from tests.security_parts import got, imported, look
from tests.web_parts import CONTROL, Web, lite, web

__all__ = ["lite", "web"]

MULTI = CONTROL.replace(b"name: airlines", b"name: multi").replace(CONTROL[CONTROL.index(b"files:") : CONTROL.index(b"entities:")], b"")
JSONL = CONTROL.replace(b"airlines.csv", b"a.jsonl")
HEADER = b"carrier,name\n"
ROWS = b"#Entity,Action,carrier,name\nAirline,Merge,AA,x\n"
BAD_ROWS = [
    b"AA,x\0y", b"AA," + b"x" * 10_000_000, b"AA,x" + b",y" * 5001, b"AA,\xff\xfe", b"AA,\xed\xa0\x80", b'AA,"x"y', b"AAA,<script>",
    b"AAA,=cmd|' /C calc'!A0", b"AAA,'); DROP TABLE airlines; --", b"AAA,\xe2\x80\xae\xf0\x9f\x98\x80", b"AAA,{}%s%n",
]  # fmt: skip


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_bad_rows_come_back_byte_for_byte(web: Web, end: bytes) -> None:
    """Every row that cannot be taken is given back as it was sent, and the good ones around them are in the table (T68, T69, T80)."""
    rows = [b"A%d,ok" % n for n in range(9)]
    mixed = [row for pair in zip(rows, BAD_ROWS, strict=False) for row in pair] + BAD_ROWS[9:]
    batch = imported(web, HEADER[:-1] + end + end.join(mixed) + end, "airlines.csv", CONTROL)
    assert got(web, f"/api/batch/{batch}").text == "completed input=20 success=9 error=11 skip=0"
    refused = got(web, f"/api/batch/{batch}/failed/airlines.csv")
    assert refused.data == HEADER[:-1] + end + end.join(BAD_ROWS) + end
    for path in ("", "/results", "/errors", "/results?for=spreadsheet"):
        for accept in ("*/*", "application/json"):
            look(got(web, f"/api/batch/{batch}{path}", headers={"Accept": accept}), path)
    assert [name for (name,) in sql(web.settings.target_url, "SELECT name FROM airlines")] == ["ok"] * 9


def test_values_are_data(web: Web) -> None:
    """What looks like SQL, HTML or a formula stands in the table as it was sent; for a spreadsheet its receipt is inert (T79, T80, T81)."""
    values = {"';": "'); DROP TABLE airlines; --", "=1": "=cmd|' /C calc'!A0", "<s": "<script>alert(1)</script>", "%s": "$1 :x ? %(x)s"}
    data = HEADER + "".join(f'"{key}","{value}"\n' for key, value in values.items()).encode()
    batch = imported(web, data, "airlines.csv", CONTROL)
    assert dict(sql(web.settings.target_url, "SELECT carrier, name FROM airlines")) == values
    assert ",=1,airlines.csv\n" in got(web, f"/api/batch/{batch}/results").text
    assert ",'=1,airlines.csv\n" in got(web, f"/api/batch/{batch}/results?for=spreadsheet").text


@pytest.mark.parametrize("name", ["airlines; DROP TABLE airlines", 'airlines"; DROP TABLE airlines; --', "lading.keys", "{}", "x" * 5000])
def test_names_of_tables_and_columns_are_looked_up(web: Web, name: str) -> None:
    """A table or column in a control file is one that the target has, or a fault of the control file; it never becomes SQL (T79)."""
    quoted = ("'" + name.replace("'", "''") + "'").encode()
    table = CONTROL.replace(b"table: airlines", b"table: " + quoted)
    column = CONTROL.replace(b"  - name:\n", b"  - " + quoted + b": {input: name}\n")
    for data in (table, column, CONTROL.replace(b"entity: Airline\n", b"entity: " + quoted + b"\n")):
        reply = web.post("/api/control", {"file": (BytesIO(data), "c")})
        look(reply, name)
        assert reply.status_code == 400
    assert sql(web.settings.target_url, "SELECT count(*) FROM airlines") == [(0,)]


def test_half_characters_in_json_are_told(web: Web) -> None:
    """A record whose JSON holds NUL or half a character is refused, and its errors can be looked at in every form (T73, T82)."""
    data = b'{"carrier":"A\\u0000","name":"x"}\n{"carrier":"A","name":"\\ud800"}\n{"carrier":"B","name":"ok"}\n'
    batch = imported(web, data, "a.jsonl", JSONL)
    assert "success=1 error=2" in got(web, f"/api/batch/{batch}").text
    for path in ("?include_errors=true", "/results", "/errors"):
        reply = got(web, f"/api/batch/{batch}{path}", headers={"Accept": "application/json"})
        look(reply, path)
        assert reply.status_code == 200 and reply.get_json()
    assert got(web, f"/api/batch/{batch}/results?cursor={10**30}", headers={"Accept": "application/json"}).status_code == 400


def test_a_limited_key_reaches_no_other_control_file(web: Web) -> None:
    """A key that is limited to one control file cannot reach another by a `!Name` line in its data; other keys can (T87)."""
    web.control()
    web.control(MULTI)
    limited = web.new_key("import", "read", limits={"controls": ["multi"]})
    batch = imported(web, b"!airlines\n" + ROWS, "m.csv", MULTI, limited)
    assert "error=1" in got(web, f"/api/batch/{batch}", key=limited).text
    assert sql(web.settings.target_url, "SELECT count(*) FROM airlines") == [(0,)]
    batch = imported(web, b"!multi\n" + ROWS, "m.csv", MULTI, limited)
    assert "success=1" in got(web, f"/api/batch/{batch}", key=limited).text
    assert "success=0" in got(web, f"/api/batch/{imported(web, b'!airlines' + bytes([10]) + ROWS, 'm.csv', MULTI)}").text


@pytest.mark.parametrize("mark", [b"!Na\0me\n", b"!\xff\n", b"#Entity,Action,na\0me,carrier\n"])
def test_rows_below_an_unreadable_mark_are_not_guessed(web: Web, mark: bytes) -> None:
    """When a `!` line or header cannot be read, the lines before do not speak for the rows below, even where one spans lines (T66, T69)."""
    data = b"#Entity,Action,carrier,name\nAirline,Merge,AA,x\n" + mark + b'Airline,Merge,BB,"y\nz"\nAirline,Merge,CC,x\n!multi\n'
    batch = imported(web, data + ROWS.replace(b"AA", b"DD"), "m.csv", MULTI)
    assert got(web, f"/api/batch/{batch}").text.startswith("completed")
    assert sorted(c for (c,) in sql(web.settings.target_url, "SELECT carrier FROM airlines")) == ["AA", "DD"]


@pytest.mark.parametrize("pack", [gzip.compress, zstd.compress])
def test_bombs_are_refused_in_bounded_memory(pack: object) -> None:
    """A file that expands more than a hundredfold is refused by what comes out of it, soon and in little memory (T75)."""
    data = pack(b"\0" * 200_000_000)  # type: ignore[operator]
    tracemalloc.start()
    begun = time.process_time()
    read, _ = open_blocks(BytesIO(data), "f.csv.gz" if pack is gzip.compress else "f.csv.zst", "utf-8", Limits())
    with pytest.raises(FileRefused, match="expands to more than 100 times"):
        while read():
            pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 16_000_000 and time.process_time() - begun < 10


def test_sizes_that_lie_are_no_use() -> None:
    """What a compressed file says of its own size is compared with what comes out of it (T75)."""
    data = b"a,b,c\n" * 1000
    frame = bytearray(zstd.compress(data))
    frame[5] ^= 1  # in the size of its content
    for name, packed in {"f.csv.gz": gzip.compress(data)[:-4] + b"\7\0\0\0", "f.csv.zst": bytes(frame)}.items():
        with pytest.raises(FileRefused, match="cannot be decompressed"):
            read, _ = open_blocks(BytesIO(packed), name, "utf-8", Limits())
            while read():
                pass


@pytest.mark.parametrize(
    "bomb", [b"[" * 400_000, b"a: &a [x]\n" + b"b: [*a, *a]\n" * 40_000, b"? " * 200_000, b"{a: " * 100_000, b"- " * 200_000]
)
def test_control_file_bombs_are_refused_soon(lite: Web, bomb: bytes) -> None:
    """Control files that nest, repeat or grow without end are refused within seconds (T78)."""
    begun = time.process_time()
    reply = lite.post("/api/control", {"file": (BytesIO(bomb), "c")})
    look(reply, bomb[:20])
    assert reply.status_code == 400 and time.process_time() - begun < 10 and len(reply.data) < 1_000_000


def test_slow_patterns_are_fast(lite: Web) -> None:
    """A pattern that would keep a backtracking engine busy for ever costs no time (T79)."""
    control = CONTROL.replace(b"  - name:\n", b"  - name: {converter: {type: Text, pattern: '(a+)+$'}}\n")
    begun = time.process_time()
    batch = imported(lite, HEADER + b"AA," + b"a" * 50_000 + b"!\n", "airlines.csv", control)
    assert "error=1" in got(lite, f"/api/batch/{batch}").text and time.process_time() - begun < 10


def test_what_is_remembered_of_names_is_bounded() -> None:
    """Names sent by callers are compared by their first characters only, so that what is cached of them stays small (T82)."""
    assert nearest("x" * 1_000_000, ["xx", "y"], 1) == ("xx",)
    assert all(len(_pairs(("\u4e00" + chr(0x4E00 + n)) * 100)) < 600 for n in range(3))


@pytest.mark.parametrize("token", ["", "x", "lad_x_y", "lad_0123456789_" + "a" * 43, None, "one letter off"])
def test_every_key_is_compared_in_constant_time(lite: Web, monkeypatch: pytest.MonkeyPatch, token: str | None) -> None:
    """Whatever is wrong with a key, one digest is compared with another of the same length, by the function made for that (T87)."""
    compared: list[tuple[str, str]] = []
    compare = hmac.compare_digest

    def counted(ours: str, theirs: str) -> bool:
        compared.append((ours, theirs))
        return compare(ours, theirs)

    monkeypatch.setattr(hmac, "compare_digest", counted)
    sent = lite.key if token is None else lite.key[:-1] + "-" if token == "one letter off" else token
    assert (keys.verify(lite.catalog, sent) is None) == (token is not None)
    assert [(len(a), len(b)) for a, b in compared] == [(64, 64)]


def test_braces_in_a_message_are_text() -> None:
    """What a caller sent is shown in a refusal as it is, never taken for a format (T81)."""
    for bad in ("{}", "{input.__class__}", "{0}"):
        with pytest.raises(Exception, match="Not a mail address") as refused:
            check(BatchRequest(), {"control": "x", "sendSuccessEmailTo": bad})
        assert bad in str(refused.value)


@pytest.mark.parametrize("instant", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_instants_that_utc_does_not_have(instant: str) -> None:
    """An instant that no calendar has in UTC is refused like any other that is none (T31)."""
    with pytest.raises(Exception, match="RFC 3339"):
        check(BatchesQuery(), {"since": instant})


def test_control_names_that_postgresql_cannot_ask_for(web: Web) -> None:
    """Names with NUL or half a character are those of no control file (T69)."""
    batch = int(web.ready())
    assert controls.names(web.catalog)
    assert [batches.control_pin(web.catalog, batch, name) for name in ("a\0b", "\ud800")] == [None, None]
