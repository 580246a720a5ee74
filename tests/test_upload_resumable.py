"""Uploads in parts, by the tus protocol: what it demands of a server, and what becomes of the bytes."""

from __future__ import annotations

import base64
import hashlib
import json
import os
from io import BytesIO
from typing import Any

import pytest
from werkzeug.test import TestResponse

from catalog import batches, files
from catalog.batches import Attached
from errors import UploadHeld, UploadUnknown
from routes.resumable import PART_TYPE
from spool import Spool
from tests.web_parts import Web, lite, web

__all__ = ["lite", "web"]

DATA = b"carrier,name\n" + b"".join(b"%d,airline %d\n" % (n, n) for n in range(500))
DIGEST = hashlib.sha256(DATA).hexdigest()
TUS = {"Tus-Resumable": "1.0.0"}


def ask(web: Web, method: str, path: str, data: bytes = b"", key: str | None = None, **headers: str) -> TestResponse:
    """Make a call with headers whose names are written with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    sent = {"Authorization": f"apikey {key or web.key}"} | TUS | named
    return web.app.test_client().open(path, method=method, data=data, headers={n: v for n, v in sent.items() if v}, buffered=True)


def metadata(**pairs: str) -> str:
    """Return an Upload-Metadata header."""
    return ",".join(f"{key} {base64.b64encode(value.encode()).decode()}" for key, value in pairs.items())


def begun(web: Web, length: int = len(DATA), **pairs: str) -> str:
    """Begin an upload and return its path."""
    reply = ask(web, "POST", "/api/upload", Upload_Length=str(length), Upload_Metadata=metadata(**pairs))
    assert reply.status_code == 201, reply.text
    return reply.headers["Location"]


def send(web: Web, path: str, data: bytes, offset: int, **headers: str) -> TestResponse:
    """Send a part."""
    return ask(web, "PATCH", path, data, **({"Content_Type": PART_TYPE, "Upload_Offset": str(offset)} | headers))


def offset(web: Web, path: str) -> int:
    """Return the offset that the server tells."""
    return int(ask(web, "HEAD", path).headers["Upload-Offset"])


def spool_of(web: Web) -> Spool:
    """Return the application's spool."""
    spool: Spool = web.app.extensions["lading"].spool
    return spool


def test_the_abilities_are_told(lite: Web) -> None:
    """OPTIONS names version, extensions, checksums and the largest upload, and needs no key."""
    reply = lite.app.test_client().options("/api/upload")
    assert reply.status_code == 204
    assert reply.headers["Tus-Version"] == "1.0.0"
    assert reply.headers["Tus-Extension"].split(",") == ["creation", "checksum", "expiration", "termination"]
    assert reply.headers["Tus-Max-Size"] == str(lite.settings.max_upload_bytes)
    assert "sha1" in reply.headers["Tus-Checksum-Algorithm"].split(",")


def test_parts_become_an_ordinary_file(web: Web) -> None:
    """What came in three parts is stored under its digest, given to the batch that the metadata name, and known by its file name."""
    batch = web.batch()
    path = begun(web, batch=batch, name="airlines.csv", filename="of the night.csv", colour="red")
    at = 0
    for end in (1000, 1001, len(DATA)):
        reply = send(web, path, DATA[at:end], at)
        assert (reply.status_code, reply.headers["Upload-Offset"], reply.text) == (204, str(end), "")
        at = end
    assert reply.headers["File-Digest"] == DIGEST
    head = ask(web, "HEAD", path)
    assert (head.status_code, head.headers["Upload-Length"], head.headers["Cache-Control"]) == (200, str(len(DATA)), "no-store")
    assert "colour cmVk" in head.headers["Upload-Metadata"] and head.headers["Tus-Resumable"] == "1.0.0"
    [file] = batches.files(web.catalog, int(batch))
    assert (file.name, file.digest, file.size) == ("airlines.csv", DIGEST, len(DATA))
    known = web.get(f"/api/file/{DIGEST}").get_json()
    assert (known["names"], known["batches"]) == (["of the night.csv"], [int(batch)])
    assert web.get(f"/api/file/{DIGEST}/content", buffered=True).data == DATA
    another = {"batch": web.batch(), "name": "more.csv", "digest": DIGEST}
    assert web.post("/api/file", another, content_type="multipart/form-data").text == DIGEST


def test_a_wrong_offset_changes_nothing(lite: Web) -> None:
    """T59: a part for another offset is 409 and told the right one; a finished upload takes no more, not even nothing."""
    path = begun(lite)
    assert send(lite, path, DATA[:100], 0).status_code == 204
    for wrong in (0, 99, 101, len(DATA)):
        refused = send(lite, path, DATA[wrong:], wrong)
        assert (refused.status_code, refused.headers["Upload-Offset"]) == (409, "100")
    assert send(lite, path, DATA[100:], 100).status_code == 204
    for late, data in ((len(DATA), b"x"), (len(DATA), b""), (0, DATA)):
        refused = send(lite, path, data, late)
        assert (refused.status_code, refused.headers["Upload-Offset"]) == (409, str(len(DATA)))
    assert lite.get(f"/api/file/{DIGEST}").get_json()["size"] == len(DATA)


def test_lengths_that_lie(lite: Web) -> None:
    """T59: more than was declared is refused and none of it kept; less is not complete, and nobody can use it."""
    path = begun(lite, len(DATA) - 10)
    assert send(lite, path, DATA, 0).status_code == 413
    chunked = lite.app.test_client().patch(
        path, input_stream=BytesIO(DATA), headers=TUS | {"Authorization": f"apikey {lite.key}", "Upload-Offset": "0"},
        content_type=PART_TYPE, environ_overrides={"wsgi.input_terminated": True},
    )  # fmt: skip
    assert chunked.status_code == 413, chunked.text
    assert offset(lite, path) == 0
    short = begun(lite, len(DATA) + 1)
    assert send(lite, short, DATA, 0).headers.get("File-Digest") is None
    assert lite.get(f"/api/file/{DIGEST}").status_code == 404
    limit = lite.settings.max_upload_bytes
    refused = ask(lite, "POST", "/api/upload", Upload_Length=str(limit + 1))
    assert (refused.status_code, refused.headers["Tus-Max-Size"]) == (413, str(limit))


@pytest.mark.parametrize("algorithm", ["sha1", "sha256"])
def test_checksums(lite: Web, algorithm: str) -> None:
    """T57, T59: a part with a wrong checksum is 460 and none of it is kept; with the right one it is taken."""

    def said(data: bytes) -> str:
        return f"{algorithm} {base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}"

    path = begun(lite)
    assert send(lite, path, DATA[:100], 0, Upload_Checksum=said(DATA[:100])).status_code == 204
    assert send(lite, path, DATA[100:], 100, Upload_Checksum=said(DATA)).status_code == 460
    for unreadable in ("md5 AAAA", f"{algorithm} AAAA", algorithm, f"{algorithm} %%%"):
        assert send(lite, path, DATA[100:], 100, Upload_Checksum=unreadable).status_code == 400
    assert offset(lite, path) == 100
    assert send(lite, path, DATA[100:], 100, Upload_Checksum=said(DATA[100:])).headers["File-Digest"] == DIGEST


def test_the_digest_of_the_whole(lite: Web) -> None:
    """T57: where the metadata tell a digest that the bytes do not have, nothing is stored, and the upload is forgotten."""
    wrong, right = begun(lite, sha256="0" * 64), begun(lite, sha256=DIGEST.upper())
    assert send(lite, wrong, DATA, 0).status_code == 400
    assert lite.get(f"/api/file/{DIGEST}").status_code == 404
    assert ask(lite, "HEAD", wrong).status_code == 404
    assert send(lite, right, DATA, 0).headers["File-Digest"] == DIGEST


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", {"Tus_Resumable": "", "Upload_Length": "1"}, 412),
        ("POST", {"Tus_Resumable": "0.2.2", "Upload_Length": "1"}, 412),
        ("POST", {}, 400),
        ("POST", {"Upload_Defer_Length": "1"}, 400),
        ("POST", {"Upload_Length": "-1"}, 400),
        ("POST", {"Upload_Length": "9" * 16}, 400),
        ("POST", {"Upload_Length": "1", "Upload_Metadata": "name"}, 400),
        ("POST", {"Upload_Length": "1", "Upload_Metadata": "filename %%%"}, 400),
        ("POST", {"Upload_Length": "1", "Upload_Metadata": "a YQ==,a YQ=="}, 400),
        ("POST", {"Upload_Length": "1", "Upload_Metadata": metadata(batch="1", name="more.csv")}, 404),
        ("POST", {"Upload_Length": "1", "Upload_Metadata": metadata(batch="x", name="more.csv")}, 400),
        ("POST", {"Upload_Length": "1", "Upload_Metadata": metadata(sha256="abc")}, 400),
        ("PATCH", {"Content_Type": "text/csv", "Upload_Offset": "0"}, 415),
        ("PATCH", {"Content_Type": PART_TYPE}, 400),
        ("PATCH", {"Content_Type": PART_TYPE, "Upload_Offset": "0", "Tus_Resumable": ""}, 412),
        ("HEAD", {"Tus_Resumable": "1.0.1"}, 412),
        ("DELETE", {"Tus_Resumable": "1.0.1"}, 412),
    ],
)
def test_what_the_protocol_refuses(lite: Web, method: str, headers: dict[str, str], status: int) -> None:
    """A call that is not as the protocol wants it is refused by its status, which says our version too."""
    path = "/api/upload" if method == "POST" else begun(lite)
    reply = ask(lite, method, path, b"x" if method == "PATCH" else b"", **headers)
    assert (reply.status_code, reply.headers["Tus-Resumable"]) == (status, "1.0.0"), reply.text
    assert (status == 412) == ("Tus-Version" in reply.headers)


def test_a_batch_that_cannot_take_it_is_told_at_the_start(lite: Web) -> None:
    """T10, T11: an unknown or taken name is refused before a byte is sent; replace=true replaces."""
    batch = lite.ready()
    for name, status in (("other.csv", 422), ("airlines.csv", 409)):
        said = metadata(batch=batch, name=name)
        assert ask(lite, "POST", "/api/upload", Upload_Length="9", Upload_Metadata=said).status_code == status
    path = begun(lite, batch=batch, name="airlines.csv", replace="true")
    assert send(lite, path, DATA, 0).status_code == 204
    assert [each.digest for each in batches.files(lite.catalog, int(batch))] == [DIGEST]


def test_a_batch_that_was_scheduled_meanwhile_is_told_at_the_end(lite: Web) -> None:
    """T13: a file that comes too late for its batch is stored but not given to it, and every call says so instead of success."""
    batch = lite.ready()
    path = begun(lite, batch=batch, name="more.csv")
    assert lite.post("/api/schedule", {"batch": batch}).status_code == 200
    for _ in range(2):
        reply = send(lite, path, DATA, 0) if lite.get(f"/api/file/{DIGEST}").status_code == 404 else ask(lite, "HEAD", path)
        assert reply.status_code == 409 and "File-Digest" not in reply.headers
    assert lite.get(f"/api/file/{DIGEST}").get_json()["batches"] == []


def test_another_keys_uploads_do_not_exist(lite: Web) -> None:
    """T58: for another key an upload answers as one that never was; a key that may only read is refused."""
    path = begun(lite)
    stranger, reader = lite.new_key("import", "read"), lite.new_key("read")
    for method in ("HEAD", "PATCH", "DELETE"):
        headers: dict[str, Any] = {"Content_Type": PART_TYPE, "Upload_Offset": "0"} if method == "PATCH" else {}
        theirs, none, odd = (
            ask(lite, method, p, key=stranger, **headers) for p in (path, "/api/upload/" + "0" * 32, "/api/upload/..")
        )  # fmt: skip
        assert theirs.status_code == none.status_code == odd.status_code == 404
        assert theirs.text.replace(path.rpartition("/")[2], "0" * 32) == none.text
        assert ask(lite, method, path, key=reader, **headers).status_code == 403
    assert ask(lite, "POST", "/api/upload", key=reader, Upload_Length="1").status_code == 403
    assert offset(lite, path) == 0


def test_an_upload_can_be_given_up(lite: Web) -> None:
    """DELETE forgets an upload and its bytes; of a finished one, the stored file stays."""
    path, done = begun(lite), begun(lite)
    send(lite, path, DATA[:10], 0)
    send(lite, done, DATA, 0)
    for each in (path, done):
        assert ask(lite, "DELETE", each).status_code == 204
        assert ask(lite, "HEAD", each).status_code == ask(lite, "DELETE", each).status_code == 404
    assert lite.get(f"/api/file/{DIGEST}").status_code == 200


def test_no_bytes_are_a_file_too(lite: Web) -> None:
    """An upload of length 0 is whole from the start."""
    path = begun(lite, 0)
    assert ask(lite, "HEAD", path).headers["File-Digest"] == hashlib.sha256(b"").hexdigest()


def test_calls_in_disguise(lite: Web) -> None:
    """X-HTTP-Method-Override makes a POST of HEAD, PATCH and DELETE, and of nothing else."""
    path = begun(lite)
    part = {"Content_Type": PART_TYPE, "Upload_Offset": "0", "X_HTTP_Method_Override": "PATCH"}
    assert ask(lite, "POST", path, DATA, **part).headers["File-Digest"] == DIGEST
    assert ask(lite, "POST", path, X_HTTP_Method_Override="HEAD").headers["Upload-Offset"] == str(len(DATA))
    assert ask(lite, "POST", path, X_HTTP_Method_Override="DELETE").status_code == 204
    assert ask(lite, "POST", path, X_HTTP_Method_Override="PUT").status_code == ask(lite, "POST", path).status_code == 405


def test_creation_honours_an_idempotency_key(lite: Web) -> None:
    """The same creation under the same key gives the same upload again."""
    headers: dict[str, Any] = {"Upload_Length": "5", "Idempotency_Key": "night"}
    first, again = (ask(lite, "POST", "/api/upload", **headers) for _ in range(2))
    assert first.headers["Location"] == again.headers["Location"] and again.headers["Idempotent-Replayed"] == "true"
    assert ask(lite, "POST", "/api/upload", **(headers | {"Upload_Length": "6"})).status_code == 422


@pytest.mark.parametrize("broke_off", ["before the digest", "before the move", "before the catalog", "before the end"])
def test_a_request_that_died_at_the_end_is_finished_by_the_next(lite: Web, broke_off: str) -> None:
    """T27: wherever the process of the last part was killed, HEAD makes the upload a file before it says that all bytes came."""
    batch = lite.batch()
    path = begun(lite, batch=batch, name="airlines.csv")
    with spool_of(lite).uploads.hold(path.rpartition("/")[2]) as held:
        held.append(DATA)
        if broke_off == "before the move":
            held.note(digest=DIGEST, size=len(DATA))
        elif broke_off != "before the digest":
            held.store()
        if broke_off == "before the end":
            files.add(lite.catalog, DIGEST, len(DATA), key_id=held.facts["key_id"])
            assert batches.attach(lite.catalog, int(batch), "airlines.csv", DIGEST) is Attached.ADDED
    head = ask(lite, "HEAD", path)
    assert (head.headers["Upload-Offset"], head.headers["File-Digest"]) == (str(len(DATA)), DIGEST)
    assert [each.digest for each in batches.files(lite.catalog, int(batch))] == [DIGEST]
    assert lite.get(f"/api/file/{DIGEST}/content", buffered=True).data == DATA


def test_what_is_held_is_locked(lite: Web) -> None:
    """T59: while one request writes, a part for the same upload is 423, HEAD tells the offset, and the sweep leaves it alone."""
    path = begun(lite)
    uploads, upload_id = spool_of(lite).uploads, path.rpartition("/")[2]
    with uploads.hold(upload_id) as held:
        held.append(DATA[:7])
        assert send(lite, path, DATA[7:], 7).status_code == 423
        assert ask(lite, "DELETE", path).status_code == 423
        assert offset(lite, path) == 7
        with pytest.raises(UploadHeld), uploads.hold(upload_id):
            pass
        assert uploads.expire(-1) == 0
    assert send(lite, path, DATA[7:], 7).headers["File-Digest"] == DIGEST


def test_old_uploads_expire(lite: Web) -> None:
    """Upload-Expires tells when; from then on the sweep forgets it, and not before."""
    old, new = begun(lite), begun(lite)
    assert ask(lite, "HEAD", old).headers["Upload-Expires"].endswith(" GMT")
    uploads, folder = spool_of(lite).uploads, old.rpartition("/")[2]
    send(lite, old, DATA[:5], 0)
    for path in (lite.app.extensions["lading"].spool._root / "uploads" / folder).iterdir():
        os.utime(path, (0, 0))
    assert uploads.expire(24 * 3600) == 1
    assert (ask(lite, "HEAD", old).status_code, ask(lite, "HEAD", new).status_code) == (404, 200)
    with pytest.raises(UploadUnknown):
        uploads.touched_at(folder)


def test_json_is_told_of_a_new_upload(lite: Web) -> None:
    """As JSON the reply to a creation has the upload's id and length, as text its id."""
    reply: Any = ask(lite, "POST", "/api/upload", Upload_Length="5", Accept="application/json")
    assert json.loads(reply.text) == {"upload": reply.headers["Location"].rpartition("/")[2], "length": 5}
