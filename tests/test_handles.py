"""Files by handles that their clients choose: sent whole and in parts, kept for a time or in a directory, and imported."""

from __future__ import annotations

import hashlib
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any

import pytest
import time_machine
from werkzeug.test import TestResponse

import clock
from catalog import handles
from catalog.database import writing
from catalog.handles import Handle
from errors import Refusal
from jobs import retention
from spool import Spool
from tests.security_parts import work_off
from tests.web_parts import CONTROL, Web, lite, web

__all__ = ["lite", "web"]

DATA = b"carrier,name\n" + b"".join(b"%02d,airline %d\n" % (n, n) for n in range(90))
DIGEST = hashlib.sha256(DATA).hexdigest()
ONE = "0b6f3c1e-8d5a-4f7b-9c2d-1a2b3c4d5e6f"


def put(web: Web, data: bytes, handle: str = ONE, query: str = "", key: str | None = None, **headers: str) -> TestResponse:
    """Send bytes by a handle, with headers whose names are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {"Authorization": f"apikey {key or web.key}"} | named
    return web.app.test_client().put(f"/api/handle/{handle}{query}", data=data, headers=sent)


def part(web: Web, start: int, end: int, data: bytes | None = None, last: int = 0, **options: Any) -> TestResponse:
    """Send bytes `start` to before `end` of DATA; `last` is what is taken off the number that Content-Range names for the end."""
    body = DATA[start:end] if data is None else data
    return put(web, body, Content_Range=f"bytes {start}-{end - last}/{len(DATA)}", **options)


def told(web: Web, handle: str = ONE, key: str | None = None) -> dict[str, Any] | None:
    """Return what is told of a handle."""
    reply = web.get(f"/api/handle/{handle}", key=key)
    return reply.get_json() if reply.status_code == 200 else None


def spool_of(web: Web) -> Spool:
    """Return the application's spool."""
    spool: Spool = web.app.extensions["lading"].spool
    return spool


def test_a_file_by_a_handle(web: Web) -> None:
    """A file sent by a handle is told under it to its key alone, is kept for a time, and sent again its time begins anew."""
    reply = put(web, DATA, query="?name=a.csv")
    assert (reply.status_code, reply.text) == (200, DIGEST)
    first = told(web)
    assert first is not None
    assert (first["digest"], first["size"], first["directory"], first["name"]) == (DIGEST, len(DATA), None, "a.csv")
    assert told(web, ONE.upper()) == first
    assert told(web, key=web.new_key("import", "read", "admin")) is None
    until = datetime.fromisoformat(first["expires_at"])
    assert timedelta(minutes=59) < until - datetime.now(UTC) <= timedelta(minutes=60)
    time.sleep(0.01)
    again = put(web, DATA, Content_Range=f"bytes 0-{len(DATA)}/{len(DATA)}")
    assert again.text == DIGEST
    assert datetime.fromisoformat((told(web) or {})["expires_at"]) > until
    assert web.get(f"/api/file/{DIGEST}").status_code == 404


def test_a_form_does_as_well(lite: Web) -> None:
    """The file may be a form's, under either of the names that clients use, and its name is kept."""
    for number, field in enumerate(("file", "File")):
        handle = str(uuid.UUID(int=number))
        assert (
            lite.app.test_client()
            .put(f"/api/handle/{handle}", data={field: (BytesIO(DATA), "b.csv")}, headers={"Authorization": f"apikey {lite.key}"})
            .text
            == DIGEST
        )
        assert (told(lite, handle) or {})["name"] == "b.csv"


def test_a_handle_has_one_file(web: Web) -> None:
    """Other bytes, or another directory, are refused for a handle that has a file; once that is given up it is free."""
    assert put(web, DATA).status_code == 200
    for query, data in (("", b"other"), ("?directory=kept", DATA)):
        reply = put(web, data, query=query, Accept="application/json")
        assert (reply.status_code, (reply.get_json() or {})["code"]) == (409, "handle_taken")
    assert put(web, b"other", key=web.new_key("import")).status_code == 200
    delete = {"headers": {"Authorization": f"apikey {web.key}"}}
    assert web.app.test_client().delete(f"/api/handle/{ONE}", **delete).status_code == 204
    assert web.app.test_client().delete(f"/api/handle/{ONE}", **delete).status_code == 404
    assert told(web) is None
    assert put(web, b"other").status_code == 200


@pytest.mark.parametrize("last", [0, 1])
def test_parts(web: Web, last: int) -> None:
    """Parts come one after another, their ends counted in or out; each but the last is 206 and tells how much has come."""
    reply = part(web, 0, 500, last=last)
    assert (reply.status_code, reply.text, reply.headers["Upload-Offset"]) == (206, "500", "500")
    assert told(web) is None
    assert part(web, 500, 800, last=last).status_code == 206
    reply = part(web, 800, len(DATA), last=last)
    assert (reply.status_code, reply.text) == (200, DIGEST)
    assert (told(web) or {})["digest"] == DIGEST
    assert spool_of(web).uploads.expire(0) == 0


def test_parts_that_are_sent_again(web: Web) -> None:
    """A part may be sent again, the last one too after its file is whole, and the first one begins anew; other bytes are refused."""
    assert part(web, 0, 500, data=b"x" * 500).status_code == 206
    assert part(web, 0, 500).status_code == 206
    assert part(web, 500, 800, data=b"y" * 300).status_code == 206
    assert part(web, 500, 800).status_code == 206
    for _ in range(2):
        assert part(web, 800, len(DATA)).text == DIGEST
    assert part(web, 800, len(DATA), data=b"z" * (len(DATA) - 800)).status_code == 409
    assert part(web, 0, 500).status_code == 206
    assert part(web, 500, len(DATA), data=b"z" * (len(DATA) - 500)).status_code == 409
    assert (told(web) or {})["digest"] == DIGEST


def test_parts_that_do_not_fit(lite: Web) -> None:
    """A part that follows nothing, leaves a gap, or is not as long as it says is refused, and what came before it stays."""
    assert part(lite, 500, 800).status_code == 404
    assert part(lite, 0, 500).status_code == 206
    reply = part(lite, 800, len(DATA))
    assert (reply.status_code, reply.headers["Upload-Offset"]) == (409, "500")
    for wrong in (DATA[500:700], DATA[500:802]):
        assert part(lite, 500, 800, data=wrong).status_code == 400
    assert put(lite, DATA[500:800], Content_Range="bytes 500-800/9999").status_code == 400
    assert put(lite, DATA[:-1], Content_Range=f"bytes 0-{len(DATA)}/{len(DATA)}").status_code == 400
    assert part(lite, 500, len(DATA)).text == DIGEST


@pytest.mark.parametrize("said", ["bytes 5-4/9", "bytes 0-10/9", "bytes */9", "bytes 0-8/*", "0-8/9", "bytes 0-8", "bytes=0-8/9"])
def test_ranges_that_are_none(lite: Web, said: str) -> None:
    """A Content-Range that cannot be followed is 400."""
    assert put(lite, b"123456789", Content_Range=said).status_code == 400


def test_too_large_is_told_at_the_first_part(lite: Web) -> None:
    """A file that would be larger than is allowed is refused with its first part."""
    size = lite.settings.max_upload_bytes + 1
    assert put(lite, b"123", Content_Range=f"bytes 0-3/{size}").status_code == 413


def test_parts_are_not_anothers(lite: Web) -> None:
    """Parts of two keys under one handle do not meet, and the protocol for uploads in parts does not show them."""
    other = lite.new_key("import")
    assert part(lite, 0, 500).status_code == 206
    assert part(lite, 500, len(DATA), key=other).status_code == 404
    upload = hashlib.sha256(f"{lite.key.split('_')[1]} {ONE}".encode()).hexdigest()[:32]
    assert spool_of(lite).uploads.find(upload)[1] == 500
    tus = {"Tus-Resumable": "1.0.0", "Authorization": f"apikey {lite.key}"}
    assert lite.app.test_client().head(f"/api/upload/{upload}", headers=tus).status_code == 404


def test_a_crash_between_the_spool_and_the_catalog(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the last part's request died after its bytes were stored, the same part once more finishes it."""
    part(web, 0, 500)
    with monkeypatch.context() as patch:
        patch.setattr(handles, "give", lambda *_: 1 / 0)
        assert part(web, 500, len(DATA)).status_code == 500
    assert told(web) is None
    assert part(web, 500, len(DATA), data=b"z" * (len(DATA) - 500)).status_code == 409
    assert part(web, 500, len(DATA)).text == DIGEST


@pytest.mark.parametrize("handle", ["1", ONE[:-1], ONE.replace("-", ""), "{" + ONE + "}", ONE[:-1] + "g", ONE + "\n"])
def test_handles_that_are_none(lite: Web, handle: str) -> None:
    """A handle is a UUID, written in the usual way."""
    assert put(lite, DATA, handle=handle.replace("\n", "%0A")).status_code == 400


def test_directories(web: Web) -> None:
    """In a directory files are kept without an end, no two of one name; lists name all files of a key, or those of a directory."""
    ids = [str(uuid.UUID(int=n)) for n in range(4)]
    for handle in ids[:3]:
        assert put(web, DATA, handle=handle, query="?directory=in&name=a.csv").status_code == 200
    put(web, DATA, handle=ids[3])
    put(web, DATA, key=web.new_key("import"), query="?directory=in&name=a.csv")
    listed = web.get("/api/handles?directory=in", headers={"Accept": "application/json"}).get_json()
    assert [(h["handle"], h["name"], h["expires_at"]) for h in listed["handles"]] == [
        (ids[0], "a.csv", None), (ids[1], "a (1).csv", None), (ids[2], "a (2).csv", None)
    ]  # fmt: skip
    assert listed["after"] is None
    assert [line.split("\t")[0] for line in web.get(f"/api/handles?after={ids[1]}").text.splitlines()] == ids[2:]
    assert web.get("/api/handles?directory=nothing").text == ""


def test_long_lists_have_pages(lite: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list that is longer than a page tells after which handle it goes on."""
    monkeypatch.setattr("routes.handle._LISTED", 2)
    ids = [str(uuid.UUID(int=n)) for n in range(5)]
    for handle in ids:
        put(lite, DATA, handle=handle)
    seen, after = [], ""
    while after is not None:
        page = lite.get(f"/api/handles?after={after}", headers={"Accept": "application/json"}).get_json()
        seen += [h["handle"] for h in page["handles"]]
        after = page["after"]
    assert seen == ids


def test_two_files_of_one_name_at_once(web: Web) -> None:
    """Files of one name that come to a directory at the same time all get a place."""
    now = clock.now()

    def give(number: int) -> str:
        return handles.give(web.catalog, "k", Handle(str(uuid.UUID(int=number)), "in", "a.csv", DIGEST, 1, now, None)).name

    with ThreadPoolExecutor(4) as pool:
        assert len(set(pool.map(give, range(12)))) == 12


def later(web: Web, minutes: int) -> None:
    """Do what the sweep does, some minutes from now."""
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=minutes)):
        retention.temporary_files(web.catalog, spool_of(web), web.settings)


def test_temporary_files_are_deleted(web: Web) -> None:
    """After its time a file's handle is unknown and its bytes are gone; before it, and in a directory, they are not."""
    put(web, DATA)
    put(web, b"kept\n", handle=str(uuid.UUID(int=1)), query="?directory=in")
    later(web, 59)
    assert told(web) and spool_of(web).size(DIGEST)
    with time_machine.travel(datetime.now(UTC) + timedelta(minutes=61)):
        assert told(web) is None
    later(web, 61)
    assert told(web) is None and spool_of(web).size(DIGEST) is None
    assert spool_of(web).size(hashlib.sha256(b"kept\n").hexdigest()) == 5
    retention.files_and_results(web.catalog, spool_of(web), web.settings)
    assert told(web, str(uuid.UUID(int=1)))


def test_what_else_names_a_file_keeps_it(web: Web) -> None:
    """A temporary file's bytes stay where they were uploaded too, or where a batch was made of it."""
    put(web, DATA)
    web.control()
    reply = web.post(f"/api/import/airlines?handle={ONE}&name=airlines.csv")
    assert reply.status_code == 202, reply.text
    later(web, 61)
    assert told(web) is None
    work_off(web)
    assert web.get(f"/api/batch/{reply.text}").text == "completed input=90 success=90 error=0 skip=0"


def test_the_sweep_and_an_import_at_once(web: Web) -> None:
    """A handle that is given up while an import is made of it either holds the file for it, or is unknown to it."""
    put(web, DATA)
    key_id = web.key.split("_")[1]
    with writing(web.catalog) as connection:
        handles.hold(connection, key_id, ONE, DIGEST)
    handles.give_up(web.catalog, key_id, ONE)
    with writing(web.catalog) as connection, pytest.raises(Refusal, match="No whole file"):
        handles.hold(connection, key_id, ONE, DIGEST)


def test_imports_by_a_handle(web: Web) -> None:
    """An import takes the file that a handle knows, read as its name or the request says; a body beside it is refused."""
    web.control(CONTROL.replace(b"required: true", b"required: false"))
    assert web.post(f"/api/import/airlines?handle={ONE}").status_code == 404
    put(web, DATA.replace(b",", b"\t"), query="?name=more.tsv")
    assert web.post(f"/api/import/airlines?handle={ONE}&name=more.csv", data=b"more").status_code == 400
    assert web.post("/api/import/airlines?name=more.csv", {"file": (BytesIO(b"x"), "x"), "handle": ONE}).status_code == 400
    assert web.post(f"/api/import/airlines?handle={ONE}&name=more.csv&sha256={'0' * 64}").status_code == 400
    other = web.post(f"/api/import/airlines?handle={ONE}&name=more.csv", key=web.new_key("import", "read"))
    assert other.status_code == 404
    keyed = {"Idempotency-Key": "once"}
    first, again = (web.post(f"/api/import/airlines?handle={ONE}&name=more.csv", headers=keyed) for _ in range(2))
    assert (first.status_code, first.text) == (202, again.text)
    work_off(web)
    assert web.get(f"/api/batch/{first.text}").text == "completed input=90 success=90 error=0 skip=0"
