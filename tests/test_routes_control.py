"""Step 1: control files over HTTP."""

import hashlib
from dataclasses import replace
from io import BytesIO

import pytest

from app import create_app
from tests.engine_parts import sql
from tests.web_parts import BAD_CONTROL, CONTROL, Web, lite, web

__all__ = ["lite", "web"]
JSON = {"Accept": "application/json"}
DIGEST = hashlib.sha256(CONTROL).hexdigest()


def test_the_digest_and_nothing_else(web: Web) -> None:
    """The reply is the SHA-256 of the file, as plain text without a newline; a repeated call says the same."""
    for _ in range(2):
        reply = web.post("/api/control", {"comment": "c", "file": (BytesIO(CONTROL), "c.yaml")})
        assert (reply.status_code, reply.text, reply.mimetype) == (200, DIGEST, "text/plain")


def test_json_where_it_is_accepted(lite: Web) -> None:
    """With Accept: application/json the reply is JSON, with the names that now point to the file."""
    reply = lite.post("/api/control", {"file": (BytesIO(CONTROL), "c"), "name": "night"}, headers=JSON)
    assert reply.json == {"digest": DIGEST, "names": ["airlines", "night"]}


def test_the_bytes_come_back(web: Web) -> None:
    """A control file is given back byte for byte, by its digest and by either of its names."""
    web.control(name="a night's")
    for known in (DIGEST, "airlines", "a%20night's"):
        reply = web.get(f"/api/control/{known}")
        assert (reply.status_code, reply.data) == (200, CONTROL)
    assert web.get("/api/control/nobody").status_code == 404


def test_a_name_moves(web: Web) -> None:
    """A new upload moves the name; the older file stays, by its digest."""
    web.control()
    newer = web.control(CONTROL + b"# changed\n")
    assert web.get("/api/control/airlines").data == CONTROL + b"# changed\n"
    assert web.get(f"/api/control/{DIGEST}").data == CONTROL
    listed = web.get("/api/controls", headers=JSON).json
    assert listed is not None and [(c["name"], c["digest"]) for c in listed["controls"]] == [("airlines", newer)]


def test_all_faults_at_once(web: Web) -> None:
    """A control file with two faults is refused with both, each with its line, and nothing is stored."""
    bad = BAD_CONTROL + b"- entity: Two\n  table: none\n  input: [a]\n  mappings: [{a: }]\n"
    reply = web.post("/api/control", {"file": (BytesIO(bad), "c")})
    assert reply.status_code == 400
    assert "line 7: " in reply.text and "line 13: " in reply.text and "airlines" in reply.text
    assert web.get("/api/controls").text == ""
    assert web.app.extensions["lading"].spool.size(hashlib.sha256(bad).hexdigest()) is None


def test_faults_as_a_problem(lite: Web) -> None:
    """Where JSON is accepted the faults come as RFC 9457 has it, with path, line and what is allowed."""
    reply = lite.post("/api/control", {"file": (BytesIO(BAD_CONTROL), "c")}, headers=JSON)
    assert (reply.status_code, reply.mimetype) == (400, "application/problem+json")
    problem = reply.get_json()
    assert set(problem) == {"type", "title", "status", "detail", "code", "errors"}
    [error] = problem["errors"]
    assert (problem["code"], error["line"], error["path"]) == ("control_file_invalid", 7, "entities[0].table")
    assert error["allowed"] == ["airlines"]


def test_a_table_made_a_moment_ago_is_known(web: Web) -> None:
    """Tables that were made since the last upload are seen, and those dropped are not."""
    web.control()
    sql(web.settings.target_url, "CREATE TABLE airliners (carrier varchar(2) PRIMARY KEY, name text)")
    web.control(BAD_CONTROL)
    sql(web.settings.target_url, "DROP TABLE airlines")
    assert web.post("/api/control", {"file": (BytesIO(CONTROL + b"\n"), "c")}).status_code == 400


@pytest.mark.parametrize(
    ("form", "word"),
    [
        ({}, "multipart"),
        ({"comment": "x", "file": "not a file"}, "file"),
        ({"file": (BytesIO(CONTROL), "c"), "colour": "red"}, "colour: No such field. (allowed: comment, name, sha256)"),
        ({"file": (BytesIO(CONTROL), "c"), "name": "a/b"}, "name"),
        ({"file": (BytesIO(CONTROL), "c"), "sha256": "0" * 64}, "digest"),
        ({"file": (BytesIO(b"\x80"), "c")}, "UTF-8"),
    ],
)
def test_what_is_wrong_is_said(lite: Web, form: dict, word: str) -> None:
    """A form that is no form, lacks its file or holds what it should not is refused, with a word of why."""
    reply = lite.post("/api/control", form)
    assert reply.status_code in (400, 415) and word in reply.text


def test_a_large_file_is_refused_by_its_length(lite: Web) -> None:
    """A control file above the limit is refused."""
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="c"\r\n\r\n' + b"#" * (2 * 2**20) + b"\r\n--x--\r\n"
    reply = lite.post("/api/control", part, content_type="multipart/form-data; boundary=x")
    assert reply.status_code == 413


def test_a_target_that_is_down_is_no_fault_of_the_file(lite: Web) -> None:
    """A target that cannot be reached gives 503, not faults."""
    lite.close()
    lite.app = create_app(replace(lite.settings, target_url="postgresql://u@127.0.0.1:1/x"))
    reply = lite.post("/api/control", {"file": (BytesIO(CONTROL), "c")})
    assert (reply.status_code, "127.0.0.1" in reply.text) == (503, False)
