"""Uploads by curl to a live gunicorn: streamed into the spool, checked, limited, and nothing left of those that break off."""

import base64
import hashlib
import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

from tests.upload_parts import CONTROL, Web, running

LIMIT = 3_000_000
DATA = b"code,name\n1,one\n2,two\n"
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Web]:
    """A web process with a limit of 3 MB."""
    with running(tmp_path_factory.mktemp("web"), LIMIT) as process:
        yield process


@pytest.fixture
def data(tmp_path: Path) -> str:
    """A data file."""
    path = tmp_path / "flights.csv"
    path.write_bytes(DATA)
    return str(path)


def unique(tmp_path: Path, size: int) -> tuple[str, bytes]:
    """Return the path and the bytes of a file that nobody has uploaded before."""
    path = tmp_path / "unique.bin"
    path.write_bytes(os.urandom(size))
    return str(path), path.read_bytes()


def said(digest: str) -> str:
    """Return a digest as RFC 9530 writes it."""
    return f"sha-256=:{base64.b64encode(bytes.fromhex(digest)).decode()}:"


def gone(web: Web) -> bool:
    """Wait until no partial file is left, for a moment."""
    deadline = time.monotonic() + 5
    while web.partials() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not web.partials()


def test_text_fields_may_stand_after_the_file(web: Web, data: str) -> None:
    """The reply is the bare digest, whatever the order of the fields, and the same again when it is repeated."""
    batch = web.batch()
    for order in (("-F", f"file=@{data}", "-F", f"batch={batch}", "-F", "name=flights.csv"),
                  ("-F", "name=flights.csv", "-F", f"batch={batch}", "-F", f"file=@{data}")):  # fmt: skip
        assert web.curl(*order, "/api/file") == f"{DIGEST} 200"
    assert web.holds(DATA)
    told = json.loads(web.curl("-H", "Accept: application/json", "-F", f"digest={DIGEST}", "-F", f"batch={batch}", "-F", "name=more.csv",
                               "/api/file").rpartition(" ")[0])  # fmt: skip
    assert told == {"digest": DIGEST, "size": len(DATA), "batch": int(batch), "name": "more.csv", "attached": "added"}


def test_a_taken_name_is_never_overwritten_silently(web: Web, data: str, tmp_path: Path) -> None:
    """Another file under the same name is refused and not stored, unless replace=true asks for it."""
    batch, (other, content) = web.batch(), unique(tmp_path, 1000)
    form = ("-F", f"batch={batch}", "-F", "name=flights.csv")
    assert web.curl(*form, "-F", f"file=@{data}", "/api/file").endswith(" 200")
    refused = web.curl(*form, "-F", f"file=@{other}", "/api/file")
    assert refused.endswith(" 409") and "replace=true" in refused
    assert not web.holds(content) and gone(web)
    assert web.curl(*form, "-F", f"file=@{other}", "-F", "replace=true", "/api/file").endswith(" 200")
    assert web.holds(content)


@pytest.mark.parametrize(
    ("form", "status", "words"),
    [
        (["batch=BATCH", "name=other.csv", "file=@FILE"], 422, "allowed: flights.csv, more.csv"),
        (["batch=BATCH", "file=@FILE"], 400, "name"),
        (["batch=BATCH", "name=flights.csv"], 400, "-F file=@flights.csv"),
        (["batch=BATCH", "name=flights.csv", "file=@FILE", "digest=" + "0" * 64], 400, "either"),
        (["batch=BATCH", "name=flights.csv", "digest=" + "0" * 64], 404, "File not found"),
        (["batch=BATCH", "name=flights.csv", "digest=ABC"], 400, "64 lower-case"),
        (["batch=BATCH", "name=flights.csv", "file=@FILE", "file=@FILE"], 400, "file: sent twice"),
        (["batch=BATCH", "name=flights.csv", "name=more.csv", "file=@FILE"], 400, "name: sent twice"),
        (["batch=BATCH", "name=flights.csv", "data=@FILE"], 400, "only the field `file`"),
        (["batch=BATCH", "name=flights.csv", "file=@FILE", "relpace=true"], 400, "relpace"),
        (["batch=BATCH", "name=flights.csv", "file=@FILE", "replace=maybe"], 400, "replace"),
        (["batch=99", "name=flights.csv", "file=@FILE"], 404, "99"),
        (["batch=x", "name=flights.csv", "file=@FILE"], 400, "batch"),
        (["batch=BATCH", "name=flights.csv", "file=@FILE", "sha256=" + "0" * 64], 400, "expected the SHA-256 digest"),
        (["batch=BATCH", "name=flights.csv", "file=@FILE", "sha256=nonsense"], 400, "sha256"),
    ],
)  # fmt: skip
def test_refused_forms_store_nothing(web: Web, tmp_path: Path, form: list[str], status: int, words: str) -> None:
    """What is wrong with a form is said, and neither its file nor any part of it is kept."""
    path, content = unique(tmp_path, 1000)
    batch = web.batch()
    fields = [word for field in form for word in ("-F", field.replace("BATCH", batch).replace("FILE", path))]
    reply = web.curl(*fields, "/api/file")
    assert reply.endswith(f" {status}") and words in reply, reply
    assert not web.holds(content) and gone(web)


def test_other_bodies_are_refused(web: Web) -> None:
    """No form, a broken form and a query string are told apart from a good one."""
    multipart = "Content-Type: multipart/form-data"
    assert web.curl("-d", "batch=1", "/api/file").endswith(" 415")
    assert web.curl("-H", multipart, "-d", "x", "/api/file").endswith("names no boundary.\n 400")
    broken = web.curl("-H", f"{multipart}; boundary=x", "-d", "--x\r\nContent-Disposition: form-data; name=a\r\n\r\nno end", "/api/file")
    assert "no multipart form" in broken and broken.endswith(" 400")
    assert web.curl("-F", "file=x", "/api/file?batch=1").endswith(" 400")
    assert web.curl("-H", "Content-Encoding: gzip", "-F", "file=x", "/api/file").endswith(" 415")


def test_any_name_is_right_without_files_or_with_default(web: Web, data: str) -> None:
    """A control file without `files`, or with DEFAULT, takes every name."""
    entities = CONTROL[CONTROL.index(b"entities") :]
    for control in (entities, b"files: {DEFAULT: {read: csv}}\n" + entities):
        form = ("-F", f"batch={web.batch(control)}", "-F", "name=whatever.csv", "-F", f"file=@{data}")
        assert web.curl(*form, "/api/file") == f"{DIGEST} 200"


def test_digests_are_compared(web: Web, data: str, tmp_path: Path) -> None:
    """A form field or a header may tell the file's digest; a right one passes, a wrong or unreadable one stores nothing."""
    form = ("-F", f"batch={web.batch()}", "-F", "name=flights.csv", "-F", f"file=@{data}")
    assert web.curl(*form, "-F", f"sha256={DIGEST.upper()}", "/api/file") == f"{DIGEST} 200"
    for header in ("Content-Digest", "Repr-Digest"):
        assert web.curl(*form, "-H", f"{header}: md5=:AAAA:, {said(DIGEST)}", "/api/file") == f"{DIGEST} 200"
    path, content = unique(tmp_path, 1000)
    digest = hashlib.sha256(content).hexdigest()
    for header in (said(DIGEST), f"sha-256={digest}", "sha-512=:AAAA:", "sha-256=:AAAA:", "nonsense"):
        for sending in (("-T", path, f"/api/file/{digest}"), (*form[:4], "-F", f"file=@{path}", "/api/file")):
            assert web.curl("-H", f"Content-Digest: {header}", *sending).endswith(" 400"), (header, sending)
    assert not web.holds(content) and gone(web)
    part = f'file=@{path};headers="Content-Digest: {said(digest)}"'
    assert web.curl("-F", f"batch={web.batch()}", "-F", "name=more.csv", "-F", part, "/api/file") == f"{digest} 200"


def test_the_digest_of_a_whole_form_is_right_too(web: Web) -> None:
    """Content-Digest is by its standard that of the body as it is sent, so one of the whole form is compared with the whole form."""
    fields = {"batch": web.batch(), "name": "flights.csv"}
    parts = [f'--b\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in fields.items()]
    parts.append(f'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n{DATA.decode()}\r\n--b--\r\n')
    body = "".join(parts).encode()
    for digest, status in ((hashlib.sha256(body).hexdigest(), 200), (hashlib.sha256(body + b"x").hexdigest(), 400)):
        connection = HTTPConnection(web.url.removeprefix("http://"))
        headers = {"Authorization": f"apikey {web.key}", "Content-Type": "multipart/form-data; boundary=b", "Content-Digest": said(digest)}
        connection.request("POST", "/api/file", body, headers)
        assert connection.getresponse().status == status
        connection.close()


def test_raw_bodies(web: Web, tmp_path: Path) -> None:
    """curl -T stores a body under the digest that it has, and under no other."""
    path, content = unique(tmp_path, 1_000_000)
    digest = hashlib.sha256(content).hexdigest()
    assert web.curl("-T", path, f"/api/file/{DIGEST}").endswith(" 400")
    assert web.curl("-T", path, "/api/file/nonsense").endswith(" 400")
    assert web.curl("-H", "Content-Range: bytes 0-9/20", "-T", path, f"/api/file/{digest}").endswith(" 400")
    assert not web.holds(content) and gone(web)
    for sending in (("-T", path), ("-H", "Transfer-Encoding: chunked", "-T", path)):
        assert web.curl(*sending, f"/api/file/{digest}") == f"{digest} 200"
    web.spool.verify(digest)


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("is_form", [False, True])
def test_the_limit(web: Web, tmp_path: Path, is_form: bool, is_chunked: bool) -> None:
    """A body over the limit is refused with 413 that curl sees, at once where its length is told, and nothing of it is left (T56)."""
    path, content = unique(tmp_path, LIMIT + 1)
    chunked = ("-H", "Transfer-Encoding: chunked") if is_chunked else ()
    digest = hashlib.sha256(content).hexdigest()
    form = ("-F", f"batch={web.batch()}", "-F", "name=flights.csv", "-F", f"file=@{path}", "/api/file")
    for _ in range(5):
        reply = web.curl(*chunked, *(form if is_form else ("-T", path, f"/api/file/{digest}")))
        assert reply.endswith(" 413") and str(LIMIT) in reply
    assert not web.holds(content) and gone(web)


def test_a_long_refused_body_still_gets_its_reply(web: Web, tmp_path: Path) -> None:
    """A client that goes on sending much more than the limit is told so instead of being cut off in the middle."""
    path = tmp_path / "long"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    for chunked in ((), ("-H", "Transfer-Encoding: chunked")):
        assert web.curl("-H", "Expect:", *chunked, "-T", str(path), f"/api/file/{DIGEST}").endswith(" 413")
    assert web.curl("-H", "Expect:", "-T", str(path), f"/api/file/{DIGEST}", key="lad_no_key").endswith(" 401")
    assert gone(web)


def test_a_client_that_reads_nothing_before_all_is_sent_gets_its_reply(web: Web) -> None:
    """What is refused at its first byte is read to its end: a connection that is closed on a sending client loses the reply."""
    host, _, port = web.url.removeprefix("http://").partition(":")
    for key, status in ((web.key, b"413"), ("lad_no_key", b"401")):
        head = f"PUT /api/file/{DIGEST} HTTP/1.1\r\nHost: x\r\nAuthorization: apikey {key}\r\nContent-Length: {40 * LIMIT}\r\n\r\n"
        with socket.create_connection((host, int(port))) as client:
            client.sendall(head.encode())
            for _ in range(40):
                time.sleep(0.01)
                client.sendall(bytes(LIMIT))
            assert client.recv(1000).split()[1] == status


def test_a_body_of_exactly_the_limit_is_taken(web: Web, tmp_path: Path) -> None:
    """The limit is the largest body that is taken, told in advance or not."""
    path, content = unique(tmp_path, LIMIT)
    digest = hashlib.sha256(content).hexdigest()
    assert web.curl("-T", path, f"/api/file/{digest}") == f"{digest} 200"
    assert web.curl("-H", "Transfer-Encoding: chunked", "-T", path, f"/api/file/{digest}") == f"{digest} 200"


@pytest.mark.parametrize("is_form", [False, True])
@pytest.mark.parametrize("is_chunked", [False, True])
def test_an_upload_cut_off_leaves_nothing(web: Web, tmp_path: Path, is_form: bool, is_chunked: bool) -> None:
    """A connection lost at 99 % leaves neither a blob nor a partial file, and the retry works (T61)."""
    path, content = unique(tmp_path, 2_000_000)
    digest, batch = hashlib.sha256(content).hexdigest(), web.batch()
    start = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n' if is_form else b""
    body = start + content
    head = f"{'POST /api/file' if is_form else f'PUT /api/file/{digest}'} HTTP/1.1\r\nHost: x\r\nAuthorization: apikey {web.key}\r\n"
    head += "Content-Type: multipart/form-data; boundary=b\r\n" if is_form else ""
    head += f"Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n" if is_chunked else f"Content-Length: {len(body)}\r\n\r\n"
    host, _, port = web.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(head.encode() + body[: len(body) * 99 // 100])
        deadline = time.monotonic() + 10
        while not web.partials() and time.monotonic() < deadline:
            time.sleep(0.01)
        assert len(web.partials()) == 1
    assert gone(web) and not web.holds(content)
    retry = ("-F", f"batch={batch}", "-F", "name=flights.csv", "-F", f"file=@{path}", "/api/file")
    assert web.curl(*retry) == f"{digest} 200"


def test_a_killed_client_leaves_nothing(web: Web, tmp_path: Path) -> None:
    """curl killed in the middle of a slow upload leaves nothing."""
    path, content = unique(tmp_path, 2_000_000)
    command = ["curl", "-sS", "-H", f"Authorization: apikey {web.key}", "--limit-rate", "200k", "-T", path]
    client = subprocess.Popen([*command, f"{web.url}/api/file/{hashlib.sha256(content).hexdigest()}"])
    deadline = time.monotonic() + 10
    while not web.partials() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert len(web.partials()) == 1
    client.kill()
    client.wait()
    assert gone(web) and not web.holds(content)


def test_a_hundred_twins(web: Web, tmp_path: Path) -> None:
    """A hundred uploads of the same bytes at once all succeed and make one blob (T58)."""
    _, content = unique(tmp_path, 200_000)
    digest = hashlib.sha256(content).hexdigest()
    batch, barrier, replies = web.batch(), threading.Barrier(100), []

    def twin(number: int) -> None:
        connection = HTTPConnection(web.url.removeprefix("http://"), timeout=60)
        barrier.wait()
        connection.request("PUT", f"/api/file/{digest}", content, {"Authorization": f"apikey {web.key}"})
        reply = connection.getresponse()
        replies.append((reply.status, reply.read().decode()))
        connection.close()

    threads = [threading.Thread(target=twin, args=(n,)) for n in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert replies == [(200, digest)] * 100
    assert [p.name for p in (web.spool_dir / "sha256" / digest[:2]).iterdir()] == [digest]
    assert gone(web)
    assert web.curl("-F", f"batch={batch}", "-F", "name=flights.csv", "-F", f"digest={digest}", "/api/file") == f"{digest} 200"


def test_another_keys_files_do_not_exist(web: Web, data: str, tmp_path: Path) -> None:
    """A digest that only another key has uploaded answers 404 everywhere, exactly as one that nobody has."""
    path, content = unique(tmp_path, 500)
    digest = hashlib.sha256(content).hexdigest()
    assert web.curl("-T", path, f"/api/file/{digest}").endswith(" 200")
    other = web.new_key()
    for route in (f"/api/file/{digest}", f"/api/file/{digest}/content"):
        assert web.answer(route).endswith(b" 200")
        assert web.curl(route, key=other) == web.curl(route.replace(digest, "0" * 64), key=other).replace("0" * 64, digest)
        assert web.curl("-I", route, key=other).endswith(" 404")
    form = ("-F", f"batch={web.batch(key=other)}", "-F", "name=flights.csv", "-F", f"digest={digest}", "/api/file")
    assert web.curl(*form, key=other).endswith(" 404")
    assert web.curl("-T", path, f"/api/file/{digest}", key=other).endswith(" 200")
    assert web.curl(*form, key=other).endswith(" 200")
    reader = web.new_key("read")
    assert web.curl("-T", path, f"/api/file/{digest}", key=reader).endswith(" 403")


def test_what_is_known_of_a_file(web: Web, tmp_path: Path) -> None:
    """Size, names, first upload and batches are told; the content comes whole, in part, or not at all where it is known."""
    path, content = unique(tmp_path, 5000)
    digest, batch = hashlib.sha256(content).hexdigest(), web.batch()
    web.curl("-F", f"batch={batch}", "-F", "name=flights.csv", "-F", f"file=@{path}", "/api/file")
    told = json.loads(web.curl(f"/api/file/{digest}").rpartition(" ")[0])
    assert told.pop("created_at").endswith("Z")
    assert told == {"digest": digest, "size": 5000, "names": ["unique.bin"], "batches": [int(batch)]}
    route = f"/api/file/{digest}/content"
    assert web.answer(route) == content + b" 200"
    assert web.answer("-r", "100-199", route) == content[100:200] + b" 206"
    assert web.answer("-r", "-10", route) == content[-10:] + b" 206"
    assert web.answer("-r", "0-1,4-5", route) == content + b" 200"
    assert web.curl("-r", "5000-", route).endswith(" 416")
    assert web.curl("-H", f'If-None-Match: "{digest}"', route) == " 304"
    head = web.curl("-I", route).lower()
    assert f'etag: "{digest}"' in head and "content-length: 5000" in head and "accept-ranges: bytes" in head


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "-rf", "CON", "a" * 250, "🛫.csv", "a b.csv", 'quo"te.csv', "semi;colon", "%2e%2e%2f", "back\\slash"]
)
def test_names_from_hell_are_names_only(web: Web, data: str, name: str) -> None:
    """A name decides nothing about where bytes lie, and cannot break a header (T60)."""
    control = CONTROL[CONTROL.index(b"entities") :]
    before = {path for path in web.spool_dir.rglob("*") if path.is_file()}
    form = ("--form-string", f"name={name}", "-F", f"batch={web.batch(control)}")
    quoted = name.replace("\\", "\\\\").replace('"', '\\"')
    reply = web.curl(*form, "-F", f'file=@{data};filename="{quoted}"', "/api/file")
    assert reply == f"{DIGEST} 200"
    new = {path for path in web.spool_dir.rglob("*") if path.is_file()} - before
    assert {path.name for path in new if len(path.name) != 64} <= {"lock", "marker"}
    header = web.curl("-I", f"/api/file/{DIGEST}/content").lower().partition("content-disposition:")[2].splitlines()[0]
    assert header.strip().startswith("attachment; filename=") and header.isascii() and "/" not in header and '"' not in header


@pytest.mark.parametrize("name", ["a\nb", "a\tb", "gpj.\u202eexe", "x" * 256, "", "a\u2028b", "a\x7f"])
def test_unshowable_names_are_refused(web: Web, data: str, name: str) -> None:
    """Control characters, turned writing and endless names are refused by name."""
    control = CONTROL[CONTROL.index(b"entities") :]
    reply = web.curl("--form-string", f"name={name}", "-F", f"batch={web.batch(control)}", "-F", f"file=@{data}", "/api/file")
    assert reply.endswith(" 400") and "name" in reply


def test_an_idempotency_key_is_honoured(web: Web, data: str, tmp_path: Path) -> None:
    """The same upload under the same key replays the first reply; another file under it is refused."""
    batch, (other, content) = web.batch(), unique(tmp_path, 100)
    form = ("-i", "-H", f"Idempotency-Key: upload-{batch}", "-F", f"batch={batch}", "-F", "name=flights.csv")
    assert "Idempotent-Replayed" not in web.curl(*form, "-F", f"file=@{data}", "/api/file")
    again = web.curl(*form, "-F", f"file=@{data}", "/api/file")
    assert "Idempotent-Replayed: true" in again and again.endswith(f"{DIGEST} 200")
    assert web.curl(*form, "-F", f"file=@{other}", "/api/file").endswith(" 422")
    assert not web.holds(content) and gone(web)


def test_a_full_disk_is_507(tmp_path: Path, data: str) -> None:
    """Where the disk takes no more, the upload is refused, nothing of it is left, and smaller ones still work (T28)."""
    with running(tmp_path, 100_000_000, max_file_bytes=2_000_000) as web:
        path, content = unique(tmp_path, 5_000_000)
        digest = hashlib.sha256(content).hexdigest()
        assert web.curl("-T", path, f"/api/file/{digest}").endswith(" 507")
        form = ("-F", f"batch={web.batch()}", "-F", "name=flights.csv")
        assert web.curl(*form, "-F", f"file=@{path}", "/api/file").endswith(" 507")
        assert gone(web) and not web.holds(content)
        assert web.curl(*form, "-F", f"file=@{data}", "/api/file") == f"{DIGEST} 200"


def test_memory_does_not_grow_with_the_upload(tmp_path: Path) -> None:
    """A form and a raw body of 200 MB each leave the web process as small as it was, give or take its buffers."""
    path = tmp_path / "large"
    with path.open("wb") as file:
        file.truncate(200_000_000)
    with running(tmp_path, 300_000_000) as web:
        small = tmp_path / "small"
        small.write_bytes(DATA)
        web.curl("-T", str(small), f"/api/file/{DIGEST}")
        before = web.peak_kib()
        form = ("-F", f"batch={web.batch()}", "-F", "name=flights.csv", "-F", f"file=@{path}", "/api/file")
        digest = web.curl(*form).split()[0]
        assert web.curl("-T", str(path), f"/api/file/{digest}") == f"{digest} 200"
        assert web.peak_kib() - before < 16 * 1024
