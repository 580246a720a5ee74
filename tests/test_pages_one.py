"""One import on the pages: its log, its errors with the rows that they are about, and what can be done with it."""

from __future__ import annotations

import csv
import re
from dataclasses import replace
from hashlib import sha256
from io import BytesIO, StringIO
from typing import Any
from urllib.parse import urlencode

import pytest

import pages.log
from catalog import batches, keys, notices, samples, webhooks
from catalog.batches import Counts, Mode, State
from catalog.database import writing
from catalog.notices import Kind, NewDelivery
from tests.engine_parts import sql
from tests.pages_parts import Person, page_calls, words
from tests.security_parts import NAUGHTY, imported, path_of, work_off
from tests.test_security_sweep import values_for
from tests.web_parts import CONTROL, Web, lite, web

__all__ = ["lite", "web"]

BAD = b"carrier,name\nAA,American\n,Nobody\nDL,Delta\nTOOLONG,=cmd|' /C calc'!A0\n<b>,\"two\nlines\"\n"


@pytest.fixture
def person(web: Web) -> Person:
    """Give somebody who may import and read."""
    return Person(web, web.key)


def test_an_import_tells_what_became_of_it(web: Web, person: Person) -> None:
    """Counts, files with digests, links to results and refused rows stand on the page of an import; each link gives what it says."""
    batch = imported(web, BAD, "airlines.csv", CONTROL)
    page = person.get(f"/imports/{batch}")
    said = words(page)
    for word in ("completed", "records 5", "created 2", "refused 3", "airlines.csv", "What was refused"):
        assert word in said
    links = [link for link in re.findall(r'href="([^"]*)"', page.text) if link.startswith(f"/imports/{batch}/")]
    assert len(links) >= 5
    for link in links:
        assert person.get(link.replace("&amp;", "&")).status_code == 200, link
    rows = list(csv.reader(StringIO(person.get(f"/imports/{batch}/failed/airlines.csv").text, newline="")))
    assert rows == [["carrier", "name"], ["", "Nobody"], ["TOOLONG", "=cmd|' /C calc'!A0"], ["<b>", "two\nlines"]]
    safe = person.get(f"/imports/{batch}/results.csv?for=spreadsheet").text
    assert safe.startswith("\ufeff#Code") and "attachment" in person.get(f"/imports/{batch}/results.csv").headers["Content-Disposition"]


def test_errors_are_rolled_up_and_open_their_rows(web: Web, person: Person) -> None:
    """Errors stand together by what is wrong; each opens the row as it stands in its file, the cell at fault marked, as text (T80)."""
    batch = imported(web, BAD, "airlines.csv", CONTROL)
    errors = person.get(f"/imports/{batch}/errors").text
    assert errors.count("<details") == 3
    row = person.get(f"/imports/{batch}/row?file=airlines.csv&line=6&column=carrier").text
    assert "<mark>&lt;b&gt;</mark>" in row and "two\nlines" in row
    assert "<mark>(empty)</mark>" in person.get(f"/imports/{batch}/row?file=airlines.csv&line=3&column=carrier").text
    all_lines = next(link for link in re.findall(r'href="([^"]*)"', errors) if "%3Cb%3E" in link).replace("&amp;", "&")
    assert re.findall(r"airlines\.csv, (\d+)</td>", person.get(all_lines).text) == ["6"]
    assert person.get(f"/imports/{batch}/row?file=none.csv&line=3").status_code == 404
    assert person.get(f"/imports/{batch}/row?file=airlines.csv&line=0").status_code == 400


def test_the_log_by_filters(web: Web, person: Person) -> None:
    """Severity, code, column and text each leave what they say, in the order of the file."""
    batch = imported(web, BAD, "airlines.csv", CONTROL)

    def lines(**query: str) -> list[int]:
        return [int(n) for n in re.findall(r"airlines\.csv, (\d+)</td>", person.get(f"/imports/{batch}/log?{urlencode(query)}").text)]

    assert lines() == [2, 3, 4, 5, 6]
    assert lines(severity="Error") == [3, 5, 6]
    assert lines(text="<B>") == [6]
    assert lines(column="carrier", severity="Error") == [3, 5, 6]
    code = re.search(r"<small>(\w+)</small>", person.get(f"/imports/{batch}/log?severity=Error").text)
    assert code and 3 in lines(code=code[1]) and 2 not in lines(code=code[1])
    assert lines(text="nothing like it") == []
    assert person.get(f"/imports/{batch}/log?severity=bad").status_code == 400


def test_the_log_in_pages(web: Web, person: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of the log leads to the next, and a search that takes too long goes on by itself from where it was."""
    monkeypatch.setattr(pages.log, "_ROWS", 2)
    batch = imported(web, BAD, "airlines.csv", CONTROL)
    seen, path = [], f"/imports/{batch}/log"
    while path:
        text = person.get(path).text
        seen += re.findall(r"airlines\.csv, (\d+)</td>", text)
        following = re.search(r'href="([^"]*)" rel="next"', text)
        path = following[1].replace("&amp;", "&") if following else ""
    assert seen == ["2", "3", "4", "5", "6"]
    monkeypatch.setattr(pages.log, "_ROWS", 50)
    monkeypatch.setattr(pages.log, "_SECONDS", -1)
    cut = re.search(r'hx-get="([^"]*)" hx-trigger="load"', person.get(f"/imports/{batch}/log?text=zzz").text)
    assert cut and "No line more is like this" in person.get(cut[1].replace("&amp;", "&")).text


def test_from_a_first_pass_to_the_import(web: Web, person: Person) -> None:
    """By hand: control file, file, a first pass that saves nothing, and then the import; each step leads to the next."""
    web.control()
    place = person.post("/import", {"control": "airlines", "comment": "by hand"}).headers["Location"]
    batch = place.split("/")[2]
    assert "Still needed: airlines.csv" in words(person.get(place))
    form = {"batch": batch, "name": "airlines.csv", "replace": "true", "file": (BytesIO(BAD), "a.csv")}
    sent = person.client.post(place, data=form, query_string={"form_token": person.token()})
    assert sent.headers["Location"] == place
    assert person.post(f"/imports/{batch}/start", {"mode": "dry-run"}).headers["Location"] == f"/imports/{batch}"
    assert "hx-get" in person.get(f"/imports/{batch}").text
    work_off(web)
    said = words(person.get(f"/imports/{batch}"))
    assert "Nothing has been saved" in said and "created 2" in said and "Import for real" in said
    assert sql(web.settings.target_url, "SELECT count(*) FROM airlines") == [(0,)]
    person.post(f"/imports/{batch}/import")
    work_off(web)
    assert "Nothing has been saved" not in words(person.get(f"/imports/{batch}"))
    assert "Nothing has been saved" in words(person.get(f"/imports/{batch}?run=dry-run"))
    assert sql(web.settings.target_url, "SELECT count(*) FROM airlines") == [(2,)]


def test_a_first_pass_row_by_row(web: Web, person: Person) -> None:
    """Each row of a first pass stands there with what would become of it, changed cells as old and new; filters keep some, in pages."""
    imported(web, b"carrier,name\nAA,<i>Old</i>\nBB,Same\n", "airlines.csv", CONTROL)
    batch = web.batch()
    data = b"carrier,name\nAA,<b>New</b>\nBB,Same\nCC,New\n,Nobody\n"
    web.post("/api/file", {"batch": batch, "name": "airlines.csv", "file": (BytesIO(data), "a.csv")})
    web.post("/api/schedule", {"batch": batch, "mode": "dry-run"})
    work_off(web)
    page = person.get(f"/imports/{batch}").text
    assert f'hx-get="/imports/{batch}/log/rows?run=dry-run"' in page and f"/imports/{batch}/log?outcome=updated&amp;run=dry-run" in page
    rows = person.get(f"/imports/{batch}/log/rows?run=dry-run").text
    assert "<del>&lt;i&gt;Old&lt;/i&gt;</del>" in rows and "<ins>&lt;b&gt;New&lt;/b&gt;</ins>" in rows

    def lines(**query: str) -> list[str]:
        return re.findall(r"airlines\.csv, (\d+)</td>", person.get(f"/imports/{batch}/log?{urlencode(query)}").text)

    found = {name: lines(outcome=name) for name in ("created", "updated", "skipped", "deleted", "errors", "unprocessed")}
    assert found == {"created": ["4"], "updated": ["2"], "skipped": ["3"], "deleted": [], "errors": ["5"], "unprocessed": []}
    assert lines(column="name") == ["2"] and lines(outcome="errors", column="name") == []
    assert person.get(f"/imports/{batch}/log?outcome=other").status_code == 400


def test_again_copy_and_cancel(web: Web, person: Person) -> None:
    """Run again makes an import of the same files; a copy waits to be changed; a waiting one is cancelled at once."""
    batch = imported(web, BAD, "airlines.csv", CONTROL)
    again = person.post(f"/imports/{batch}/again").headers["Location"]
    assert again != f"/imports/{batch}"
    person.post(f"{again}/cancel")
    assert "cancelled" in words(person.get(again))
    second = person.post(f"/imports/{batch}/again").headers["Location"]
    work_off(web)
    assert "unchanged 2" in words(person.get(second))
    copied = person.get(person.post(f"/imports/{batch}/copy").headers["Location"])
    assert copied.headers["Location"].endswith("/files")
    assert "airlines.csv" in words(person.get(copied.headers["Location"]))


def test_a_page_of_a_running_import_is_loaded_anew_at_its_end(web: Web, person: Person) -> None:
    """The part that shows progress asks again while something runs, and has the page loaded anew at the end."""
    batch = web.ready()
    web.post("/api/schedule", {"batch": batch})
    part = person.get(f"/imports/{batch}/progress")
    assert "every 1s" in part.text and "HX-Refresh" not in part.headers
    work_off(web)
    assert person.get(f"/imports/{batch}/progress").headers["HX-Refresh"] == "true"


def test_a_run_over_time(web: Web, person: Person) -> None:
    """Each sign of life of a worker notes how far the run is; the chart has them all, and the end."""
    batch = int(web.ready())
    web.post("/api/schedule", {"batch": str(batch)})
    claim = batches.claim(web.catalog, "w", 30)
    assert claim and claim.batch_id == batch
    for count in (1, 3):
        batches.heartbeat(web.catalog, batch, claim.fence, 30, 0.5, Counts(input=count, created=count - 1, errors=1))
    noted = samples.of_run(web.catalog, batch, claim.run)
    assert [(s.input, s.errors) for s in noted] == [(1, 1), (3, 1)]
    batches.finish(web.catalog, batch, claim.fence, state=State.COMPLETED, counts=Counts(input=5, created=4, errors=1))
    chart = re.search(r'data-chart="\[\[0\.0, [^]]*\], \[0, 1, 3, 5\], \[0, 1, 1, 1\]\]"', person.get(f"/imports/{batch}").text)
    assert chart
    with writing(web.catalog) as connection:
        samples.note(connection, batch, claim.run, Counts(input=5, created=5))
    assert batches.get(web.catalog, batch, mode=Mode.IMPORT)


def test_others_imports_look_like_none(web: Web) -> None:
    """Whatever page of an import, a file or a key somebody else asks for, it answers as if there were none (T58, T87)."""
    values, stranger = values_for(web), Person(web, web.new_key("import", "read", "control"))
    nothing = values | {"webhook": "x", "delivery": "x", "batch": "4711", "digest": "0" * 64, "key_id": "0" * 10}
    values |= {"webhook": "x", "delivery": "x", "key_id": web.key.split("_")[1]}
    for method, rule in page_calls(web.app):
        if not rule.arguments & {"batch", "digest", "key_id"} or rule.endpoint.endswith("is_known"):
            continue
        extra = "?file=airlines.csv&line=2" if rule.rule.endswith("/row") else ""
        ask = stranger.get if method == "GET" else stranger.post
        replies = [ask(path_of(rule, v | {"kind": "csv"}) + extra) for v in (values, nothing)]
        assert [reply.status_code for reply in replies] in ([404, 404], [403, 403], [400, 400], [415, 415]), (method, rule, replies[0].text)


def test_notices(lite: Web) -> None:
    """A webhook is made (its secret shown once), enabled and removed; deliveries are listed, and made once more where they can be."""
    admin = Person(lite, lite.new_key("admin"))
    bad = admin.post("/notices", {"url": "https://127.0.0.1/hook"})
    assert bad.status_code == 400
    made = admin.post("/notices", {"url": "https://hooks.example.org/x", "comment": "<b>ours</b>"})
    secret = re.search(r"whsec_[A-Za-z0-9+/=]+", made.text)
    assert secret and secret[0] not in admin.get("/notices").text and "&lt;b&gt;ours" in admin.get("/notices").text
    (hook,) = webhooks.listed(lite.catalog, keys.verify(lite.catalog, lite.new_key("admin")))  # type: ignore[arg-type]
    new = NewDelivery(id="d1", kind=Kind.WEBHOOK, recipient=hook.id, event="batch.completed", batch_id=int(lite.ready()), run=1, body="{}")
    with writing(lite.catalog) as connection:
        notices.add(connection, [new])
    assert admin.post("/notices/deliveries/d1/again").status_code == 409
    assert "batch.completed" in words(admin.get("/notices?state=waiting"))
    webhooks.disable(lite.catalog, hook.id, "it never answered")
    assert "disabled: it never answered" in words(admin.get("/notices"))
    admin.post(f"/notices/{hook.id}/enable")
    assert "disabled" not in words(admin.get("/notices"))
    assert admin.post("/notices/deliveries/d1/again").status_code == 303
    admin.post(f"/notices/{hook.id}/remove")
    assert "hooks.example.org" not in admin.get("/notices").text
    assert Person(lite, lite.key).get("/notices").status_code == 403


FIELDS = "q text cursor file line state start table from name control mode run code key expires".split()  # noqa: SIM905


def test_a_files_page_names_its_imports(web: Web, person: Person) -> None:
    """The page of a file lists the imports with it by their titles, green only where no record was refused, and until when it is kept."""
    web.control()
    for title, data in (("good", b"carrier,name\nAA,x\n"), ("bad", b"carrier,name\n,x\n")):
        assert web.post(f"/api/import/airlines?name=airlines.csv&fileName={title}", data, content_type="text/csv").status_code == 202
        work_off(web)
        reply = person.get(f"/files/{sha256(data).hexdigest()}")
        assert title in words(reply) and "kept until" in words(reply)
        assert ('class="state completed with-errors"' in reply.text) is (title == "bad")


@pytest.mark.parametrize(("spool_url", "is_told"), [(None, True), ("s3://bucket/prefix", False), ("file:/none/such", False)])
def test_the_system_whatever_the_spool(lite: Web, spool_url: str | None, is_told: bool) -> None:
    """The page of the system tells how full the spool's disk is, where it is on one that can be seen; and which version this is."""
    wired = lite.app.extensions["lading"]
    if spool_url is not None:
        lite.app.extensions["lading"] = replace(wired, settings=replace(wired.settings, spool_url=spool_url))
    reply = Person(lite, lite.new_key("admin")).get("/system")
    assert reply.status_code == 200 and ("of the disk are free" in words(reply)) is is_told and "Lading 0." in words(reply)


def test_naughty_values_on_every_page(lite: Web) -> None:
    """No value in an address or a field makes a page fail, or comes back as anything but text (T80)."""
    values, person = values_for(lite) | {"key_id": "x", "kind": "csv", "webhook": "x", "delivery": "x"}, Person(lite, lite.new_key("admin"))
    token = person.token()
    for method, rule in page_calls(lite.app):
        if rule.endpoint == "pages.sign_in.sign_out":
            continue
        for number, naughty in enumerate(NAUGHTY):
            # All fields in turn, one for each value: each has met many of them in the end.
            name = FIELDS[number % len(FIELDS)]
            given = {name: naughty.encode(errors="surrogatepass"), "form_token": token}
            where: dict[str, Any] = {"data": given} if method == "POST" else {"query_string": given}
            reply = person.client.open(path_of(rule, values), method=method, buffered=True, **where)
            assert reply.status_code < 500, (method, rule, name, naughty)
            assert reply.mimetype != "text/html" or "<script>alert" not in reply.text
