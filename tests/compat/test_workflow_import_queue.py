"""The Workflow Import Queue's CreateBatch: JSON Lines in one call."""

from __future__ import annotations

import json
import subprocess
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from catalog import batches
from tests.engine_parts import sql
from tests.notice_parts import Mailbox, lite_site, mailbox, tell, texts
from tests.security_parts import look, work_off
from tests.upload_parts import running
from tests.web_parts import CONTROL, Web, lite, web

__all__ = ["lite", "lite_site", "mailbox", "web"]

PATH = "/API/WorkflowImportQueue/CreateBatch"
LINES = b'{"carrier": "AA", "name": "American"}\n{"carrier": "BB", "name": "Best"}\n'
GIVEN = {"fileName": "ACME Process 2026/11/22", "importProcessId": "airlines", "creationPath": "ACME_1"}
ONE_FILE = b"\n".join(line for line in CONTROL.splitlines() if b"more.csv" not in line) + b"\n"


def create(web: Web, body: bytes = LINES, key: str | None = None, content_type: str = "", **changed: Any) -> TestResponse:
    """Create a batch, with these parameters instead of the usual ones; None leaves one out."""
    query = {name: value for name, value in (GIVEN | changed).items() if value is not None}
    reply = web.post(PATH, body, key, query_string=query, content_type=content_type)
    look(reply, query)
    return reply


def batch_of(web: Web, reply: TestResponse) -> Any:
    """Return the batch that was made."""
    assert reply.status_code == 200, reply.text
    return batches.get(web.catalog, reply.get_json()["WORKFLOW_IMPORT_QUEUE_BATCH_ID"])


def test_a_batch_is_created_and_carried_out(web: Web) -> None:
    """The reply holds the batch's id and a link to its page; the records end in the table."""
    web.control(ONE_FILE)
    reply = create(web)
    told = reply.get_json()
    assert set(told) == {"WORKFLOW_IMPORT_QUEUE_BATCH_ID", "link"} and reply.mimetype == "application/json"
    assert type(told["WORKFLOW_IMPORT_QUEUE_BATCH_ID"]) is int
    assert told["link"] == f"http://localhost/imports/{told['WORKFLOW_IMPORT_QUEUE_BATCH_ID']}"
    work_off(web)
    assert sql(web.settings.target_url, "SELECT carrier, name FROM airlines ORDER BY carrier") == [("AA", "American"), ("BB", "Best")]
    made = batch_of(web, reply)
    assert (made.state, made.counts.created, made.file_name) == ("completed", 2, "ACME Process 2026/11/22")


@pytest.mark.parametrize(
    "kind", ["", "application/jsonl", "application/json", "text/plain", "application/x-www-form-urlencoded", "text/csv"]
)
def test_the_body_is_json_lines(lite: Web, kind: str) -> None:
    """Whatever the body calls itself, it is JSON Lines."""
    lite.control(ONE_FILE)
    made = create(lite, content_type=kind)
    work_off(lite)
    assert batch_of(lite, made).counts.created == 2


def test_a_form_is_refused(lite: Web) -> None:
    """A form is 415, since its own lines would be taken for records."""
    lite.control(ONE_FILE)
    reply = lite.post(PATH, {"file": (BytesIO(LINES), "lines")}, query_string=GIVEN)
    assert (reply.status_code, "JSON Lines" in reply.text) == (415, True)


def test_lines_that_are_no_records(lite: Web) -> None:
    """A line that is no JSON object is that line's error; the others are imported."""
    lite.control(ONE_FILE)
    made = create(lite, LINES + b'not json\n[1]\n{"carrier": "CC", "name": "C"}\n')
    work_off(lite)
    counts = batch_of(lite, made).counts
    assert (counts.input, counts.created, counts.errors) == (5, 3, 2)


@pytest.mark.parametrize("name", ["fileName", "importProcessId", "creationPath"])
def test_only_the_addresses_are_optional(lite: Web, name: str) -> None:
    """A request without a file name, a process or a creation path, or with an empty one, is 400 and makes no batch."""
    lite.control(ONE_FILE)
    for value in (None, ""):
        given: dict[str, Any] = {name: value}
        reply = create(lite, **given)
        assert (reply.status_code, name in reply.text) == (400, True)
    assert lite.get("/api/batches", headers={"Accept": "application/json"}).get_json()["batches"] == []


@pytest.mark.parametrize("path", ["acme", "A B", "A-B", "A" * 16, "ACMÉ", "A\n", "A/B"])
def test_what_no_creation_path_is(lite: Web, path: str) -> None:
    """A creation path has 1 to 15 capital letters, digits and underscores, and nothing else."""
    lite.control(ONE_FILE)
    assert create(lite, creationPath=path).status_code == 400


def test_the_creation_path_is_kept_and_found(lite: Web) -> None:
    """It is kept behind its prefix, and finds the batches of one origin among others."""
    lite.control(ONE_FILE)
    made = {path: str(create(lite, creationPath=path).get_json()["WORKFLOW_IMPORT_QUEUE_BATCH_ID"]) for path in ("LH", "A" * 15, "_9")}
    for path, batch in made.items():
        listed = lite.get(f"/api/batches?creationPath=IMPORT_QUEUE_API:{path}", headers={"Accept": "application/json"}).get_json()
        assert [(b["id"], b["creationPath"]) for b in listed["batches"]] == [(int(batch), f"IMPORT_QUEUE_API:{path}")]
    assert lite.get("/api/batches?creationPath=LH", headers={"Accept": "application/json"}).get_json()["batches"] == []


def test_the_addresses_are_kept(lite: Web) -> None:
    """Both addresses are the batch's, each for its outcome; empty ones count as left out, and wrong ones are refused."""
    lite.control(ONE_FILE)
    made = batch_of(lite, create(lite, sendSuccessEmailTo="good@example.org", sendFailureEmailTo="bad@example.org"))
    assert made.addresses == ("success:good@example.org", "failure:bad@example.org")
    assert batch_of(lite, create(lite, sendSuccessEmailTo="", sendFailureEmailTo="")).addresses == ()
    for name in ("sendSuccessEmailTo", "sendFailureEmailTo"):
        wrong: dict[str, Any] = {name: "nobody"}
        reply = create(lite, **wrong)
        assert (reply.status_code, name in reply.text) == (400, True)


def test_mails_of_both_outcomes(lite_site: Web, mailbox: Mailbox) -> None:
    """All records well is told to the one address, a single refused one to the other, each with the link that the reply gave."""
    to = {"sendSuccessEmailTo": "good@example.org", "sendFailureEmailTo": "bad@example.org"}
    for body, told in ((LINES, "good@example.org"), (LINES + b"no record\n", "bad@example.org")):
        mailbox.to.clear()
        made = create(lite_site, body, **to)
        work_off(lite_site)
        tell(lite_site)
        assert mailbox.to == [told]
        text, _ = texts(mailbox.mails[-1])
        assert made.get_json()["link"] in text and GIVEN["fileName"] in str(mailbox.mails[-1]["Subject"]) + text


def test_processes_that_are_not_there(lite: Web) -> None:
    """An unknown process is 404; one whose control file has no place for records of JSON 422; no batch is made of either."""
    assert create(lite, importProcessId="nobody").status_code == 404
    lite.control(ONE_FILE.replace(b"airlines.csv: {entity: Airline, action: Merge, required: true}", b"airlines.csv:"))
    reply = create(lite)
    assert (reply.status_code, "cannot be JSON" in reply.text) == (422, True)
    assert lite.get("/api/batches", headers={"Accept": "application/json"}).get_json()["batches"] == []


def test_a_process_by_its_number(lite: Web) -> None:
    """A control file may be named by a number, as processes are there."""
    lite.control(ONE_FILE, name="42")
    assert create(lite, importProcessId="42").status_code == 200


def test_the_key_and_its_permission(lite: Web) -> None:
    """The key comes by the scheme apikey, and needs the permission to import; without it nothing of the body is read."""
    lite.control(ONE_FILE)
    assert create(lite, key=lite.new_key("import")).status_code == 200
    for permission in ("read", "read:all", "control"):
        assert create(lite, key=lite.new_key(permission)).status_code == 403
    assert lite.app.test_client().post(PATH, query_string=GIVEN, data=LINES).status_code == 401
    limited = lite.new_key("import", limits={"controls": ["others"]})
    assert create(lite, key=limited).status_code == 404


def test_a_title_is_no_file_name(lite: Web) -> None:
    """What the file name looks like does not change how the body is read."""
    lite.control(ONE_FILE.replace(b"airlines.csv:", b"DEFAULT:").replace(b", required: true", b""))
    for title in ("export.gz", "airlines.xlsx", "a/../b.csv", "DEFAULT"):
        made = create(lite, fileName=title)
        work_off(lite)
        counts = batch_of(lite, made).counts
        assert (counts.input, counts.errors) == (2, 0), title


def test_the_same_request_twice(lite: Web) -> None:
    """With an Idempotency-Key a repeated request makes no second batch."""
    lite.control(ONE_FILE)
    replies = [lite.post(PATH, LINES, query_string=GIVEN, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    assert replies[0].text == replies[1].text and replies[1].headers["Idempotent-Replayed"] == "true"
    other = lite.post(PATH, LINES, query_string=GIVEN | {"creationPath": "B"}, headers={"Idempotency-Key": "k"})
    assert other.status_code == 422


def test_a_million_lines_in_flat_memory(tmp_path: Path) -> None:
    """A body of a million lines goes through the served application in the memory that a short one takes."""
    sql(f"sqlite:///{tmp_path / 'target.db'}", "CREATE TABLE airlines (carrier varchar(9) PRIMARY KEY, name text NOT NULL)")
    body = tmp_path / "lines"
    with body.open("wb") as file:
        for start in range(0, 1_000_000, 10_000):
            file.write(
                b"".join(b'{"carrier": "%d", "name": "An airline, as long as such names are"}\n' % n for n in range(start, start + 10_000))
            )
    (tmp_path / "short").write_bytes(LINES)
    query = "&".join(f"{name}={value.replace(' ', '%20')}" for name, value in GIVEN.items())
    with running(tmp_path, 200_000_000) as served:
        control = subprocess.run(
            ["curl", "-sSf", "-u", f"x:{served.key}", "-F", "file=@-", f"{served.url}/api/control"],
            input=ONE_FILE,
            check=True,
            capture_output=True,
        )
        assert len(control.stdout) == 64
        send = ["-H", "Expect:", "-X", "POST", "--data-binary"]
        short = json.loads(served.curl(*send, f"@{tmp_path / 'short'}", f"{PATH}?{query}").removesuffix(" 200"))
        before = served.peak_kib()
        long = json.loads(served.curl("-X", "POST", "-T", str(body), f"{PATH}?{query}").removesuffix(" 200"))
        grown = served.peak_kib() - before
    assert long["WORKFLOW_IMPORT_QUEUE_BATCH_ID"] != short["WORKFLOW_IMPORT_QUEUE_BATCH_ID"]
    assert body.stat().st_size > 60_000_000 and grown < 8_000, f"{grown} KiB"
