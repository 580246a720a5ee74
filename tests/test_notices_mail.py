"""Mails about batches, by a real mail server."""

from __future__ import annotations

import io
import threading
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from ssl import PROTOCOL_TLS_SERVER, SSLContext

import openpyxl
import pytest
from aiosmtpd.smtp import AuthResult
from sqlalchemy import select

import clock
from catalog import batches, notices
from catalog.database import reading
from catalog.notices import Kind, Progress
from catalog.tables import deliveries, notices as noted
from engine.workbook import workbook
from errors import SettingInvalid
from jobs import mail
from jobs.notices import PAUSES_SECONDS
from settings import Settings
from tests.jobs_parts import Site, wait_for
from tests.notice_parts import ONE_FILE, Mailbox, attached, certify, imported, lite_site, mailbox, notices_of, site, tell, texts
from tests.security_parts import work_off
from tests.web_parts import Web

__all__ = ["lite_site", "mailbox", "site"]
ADDRESSES = "sendSuccessEmailTo=good@example.org&sendFailureEmailTo=bad@example.org"


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Move the clock."""
    moved = clock.now() + timedelta(seconds=seconds)
    monkeypatch.setattr(clock, "now", lambda: moved)


def only(web: Web) -> notices.Delivery:
    """Return the one delivery that there is."""
    (found,) = notices.listed(web.catalog)
    return found


def test_success_is_told_to_those_who_want_to_hear_of_it(site: Web, mailbox: Mailbox) -> None:
    """A batch without errors is told to the address for success only, once, with counts and link."""
    batch = imported(site, b"carrier,name\nAA,American\nUA,United\n", "&fileName=Nightly%20airlines&creationPath=ERP_1")
    tell(site)
    tell(site)
    (told,) = mailbox.mails
    assert (mailbox.to, told["To"], told["From"]) == (["good@example.org"], "good@example.org", "imports@example.org")
    assert told["Subject"] == "Import completed: Nightly airlines"
    for text in texts(told):
        assert all(word in text for word in ("Control file", "airlines", "ERP_1", f"https://imports.example.org/imports/{batch}"))
    assert "input: 2\ncreated: 2\nupdated: 0\ndeleted: 0\nskipped: 0\nerrors: 0\nunprocessed: 0\n" in texts(told)[0]
    assert attached(told) == {}
    assert (only(site).state, only(site).tries) == (Progress.DELIVERED, 1)


def test_a_refused_record_is_a_failure(site: Web, mailbox: Mailbox) -> None:
    """One refused record is told to the address for failure, with the errors rolled up, the row and its reason (T81)."""
    imported(site, b"carrier,name\nAA,American\nXYZ,=1+1\nXYW,'\xc3\xa9'\n")
    tell(site)
    (told,) = mailbox.mails
    assert (mailbox.to, told["Subject"]) == (["bad@example.org"], "Import completed, 2 refused: airlines")
    plain, html = texts(told)
    assert "errors: 2" in plain and "1 x " in plain and "airlines.csv line 3" in plain and "<li>1 x " in html
    files = attached(told)
    assert files["failed-airlines.csv"].decode("utf-8-sig") == "carrier,name\nXYZ,'=1+1\nXYW,'é'\n"
    reasons = files["reasons.csv"].decode("utf-8-sig").splitlines()
    assert len(reasons) == 3 and ",Error,3," in reasons[1] and ",Error,4," in reasons[2]


def test_what_users_say_is_inert(lite_site: Web, mailbox: Mailbox) -> None:
    """Line ends in a title add no header, and markup in titles and data is text (T81)."""
    title, comment = "x%0D%0ABcc:%20everybody@example.org%0D%0A%0D%0A<img%20src=x>", "</td><script>alert(1)</script>"
    imported(lite_site, b'carrier,name\n"<script>",</td>\n', f"&fileName={title}&comment={comment}")
    tell(lite_site)
    (told,) = mailbox.mails
    assert "bcc" not in {name.lower() for name in told} and mailbox.to == ["bad@example.org"]
    assert told["Subject"].startswith("Import completed, 1 refused: x Bcc: everybody@example.org <img")
    html = texts(told)[1]
    assert "<script" not in html and "<img" not in html and "&lt;script&gt;" in html


@pytest.mark.parametrize(
    "text", ["a@example.org\r\nBcc: b@example.org", "a@example.org%0Ab@example.org", '"a b"@example.org', "ü@example.org"]
)
def test_addresses_are_plain(lite_site: Web, text: str) -> None:
    """An address with line ends, blanks or other letters is refused; nothing is made (T81)."""
    reply = lite_site.post("/api/batch", {"control": "airlines", "sendFailureEmailTo": text})
    assert reply.status_code == 400 and "mail address" in reply.text


def test_masked_values_are_in_no_mail(lite_site: Web, mailbox: Mailbox) -> None:
    """The rows of a control file that masks a column are not attached, and no part of the mail holds what it masks (T82)."""
    lite_site.control(ONE_FILE.replace(b"  - carrier:\n", b"  - carrier: {masked: true}\n"))
    imported(lite_site, b"carrier,name\nSECRET,American\n")
    tell(lite_site)
    (told,) = mailbox.mails
    assert list(attached(told)) == ["reasons.csv"] and "masks a column" in texts(told)[0]
    assert not any("SECRET" in text for text in (*texts(told), *(part.decode() for part in attached(told).values())))


def test_too_many_rows_are_not_attached(lite_site: Web, mailbox: Mailbox) -> None:
    """What is larger than the setting allows stays here, and the mail says so."""
    imported(lite_site, b"carrier,name\n" + b"".join(b"LONG%05d,x\n" % n for n in range(5000)))
    tell(lite_site)
    (told,) = mailbox.mails
    assert attached(told) == {} and "too many" in texts(told)[0] and "errors: 5000" in texts(told)[0]
    assert "kinds of errors more" in texts(told)[0] and len(mailbox.lines[0]) < 20_000


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("application/jsonl", b'{"carrier": "AA", "name": "A"}\n{"carrier": "XYZ", "name": "=B", "more": [1]}\nnot json\n'),
        ("application/json", b'[{"carrier": "AA", "name": "A"}, {"carrier": "XYZ", "name": "=B", "more": [1]}]'),
    ],
)
def test_json_rows_are_attached_as_csv(lite_site: Web, mailbox: Mailbox, kind: str, data: bytes) -> None:
    """Objects become rows with a column for every key; a line that is none is a row of one cell."""
    imported(lite_site, data, kind=kind)
    tell(lite_site)
    wanted = "carrier,name,more\nXYZ,'=B,[1]\n" + ("not json\n" if kind.endswith("l") else "")
    assert attached(mailbox.mails[0])["failed-airlines.csv"].decode("utf-8-sig") == wanted


def test_rows_of_a_workbook_are_attached_as_one(lite_site: Web, mailbox: Mailbox) -> None:
    """A workbook's refused rows are a workbook, whose cells are texts."""
    lite_site.control(ONE_FILE.replace(b"airlines.csv:", b"airlines.xlsx:"))
    kind = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    imported(lite_site, b"".join(workbook([["carrier", "name"], ["AA", "A"], ["XYZ", "=B"]])), "&name=airlines.xlsx", kind)
    tell(lite_site)
    sheet = openpyxl.load_workbook(io.BytesIO(attached(mailbox.mails[0])["failed-airlines.xlsx"])).worksheets[0]
    assert [[cell.value for cell in row] for row in sheet.iter_rows()] == [["carrier", "name"], ["XYZ", "=B"]]
    assert sheet["B2"].data_type == "s"


def test_a_mail_server_that_is_down_delays_the_mail_only(site: Web, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """The batch ends as it would; its mail is tried again after pauses, and comes once, under the id that it had from the start (T86)."""
    mailbox.stop()
    batch = imported(site, b"carrier,name\nAA,American\n")
    known = batches.get(site.catalog, batch)
    assert known is not None and known.state is batches.State.COMPLETED
    tell(site)
    first = only(site)
    assert (first.state, first.tries) == (Progress.WAITING, 1) and "ConnectionRefusedError" in first.message
    later(monkeypatch, PAUSES_SECONDS[0] * 1.3)
    tell(site)
    assert only(site).tries == 2
    tell(site)
    assert only(site).tries == 2, "a pause is waited for"
    mailbox.start()
    later(monkeypatch, PAUSES_SECONDS[1] * 1.3)
    tell(site)
    (told,) = mailbox.mails
    assert told["Message-ID"] == f"<{first.id}@example.org>" and only(site).state is Progress.DELIVERED


def test_tries_have_an_end(lite_site: Web, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mail that is never taken is given up after its last try, about a day later, and the list of deliveries says why."""
    mailbox.answer = "451 later"
    imported(lite_site, b"carrier,name\nAA,American\n")
    tell(lite_site)
    for pause in PAUSES_SECONDS:
        later(monkeypatch, pause * 1.3)
        tell(lite_site)
    assert (only(lite_site).state, only(lite_site).tries, only(lite_site).status) == (Progress.FAILED, len(PAUSES_SECONDS) + 1, 451)
    assert "later" in only(lite_site).message and mailbox.mails == []


def test_an_address_that_does_not_exist_is_tried_once(lite_site: Web, mailbox: Mailbox) -> None:
    """What the mail server refuses for good is given up at once."""
    mailbox.answer = "550 nobody here"
    imported(lite_site, b"carrier,name\nAA,American\n")
    tell(lite_site)
    assert (only(lite_site).state, only(lite_site).tries, only(lite_site).status) == (Progress.FAILED, 1, 550)


def test_without_a_mail_server_mails_wait(lite_site: Web, mailbox: Mailbox) -> None:
    """Where SMTP_URL is unset, that is what the delivery says, and it is tried again."""
    made = notices_of(lite_site)
    made.settings = Settings.from_environment({})
    imported(lite_site, b"carrier,name\nAA,American\n")
    assert made.tell_by_mail()
    assert (only(lite_site).state, only(lite_site).message) == (Progress.WAITING, "SMTP_URL is unset")


def test_the_end_and_its_notice_are_one(site: Web) -> None:
    """An end is noted with the end itself, not where the lease is lost, and not where nobody wants to hear of it."""
    wanted = int(site.post("/api/import/airlines?sendFailureEmailTo=bad@example.org", b"carrier,name\n", content_type="text/csv").text)
    claim = batches.claim(site.catalog, "w", 30)
    assert claim is not None and claim.batch_id == wanted
    failed: dict[str, object] = {"state": batches.State.FAILED, "counts": batches.Counts()}
    assert not batches.finish(site.catalog, wanted, claim.fence + 1, **failed)  # type: ignore[arg-type]
    assert notices.ended(site.catalog) == []
    assert batches.finish(site.catalog, wanted, claim.fence, **failed)  # type: ignore[arg-type]
    assert notices.ended(site.catalog) == [notices.Notice(wanted, 1)]
    site.post("/api/import/airlines", b"carrier,name\nAA,A\n", content_type="text/csv")
    other = batches.claim(site.catalog, "w", 30)
    assert other is not None and batches.finish(site.catalog, other.batch_id, other.fence, **failed)  # type: ignore[arg-type]
    assert notices.ended(site.catalog) == [notices.Notice(wanted, 1)]


def test_a_cancelled_batch_is_a_failure(site: Web, mailbox: Mailbox) -> None:
    """A batch that was cancelled before its turn did not do what it was to do."""
    reply = site.post(f"/api/import/airlines?{ADDRESSES}", b"carrier,name\nAA,A\n", content_type="text/csv")
    assert site.post(f"/api/batch/{reply.text}/cancel").text == "CANCELLED"
    tell(site)
    assert (mailbox.to, mailbox.mails[0]["Subject"]) == (["bad@example.org"], "Import cancelled: airlines")


def test_a_dry_run_says_that_it_was_one(lite_site: Web, mailbox: Mailbox) -> None:
    """The subject tells a dry run from an import, and each run is told once."""
    batch = imported(lite_site, b"carrier,name\nAA,A\n", "&mode=dry-run")
    assert lite_site.post("/api/schedule", {"batch": str(batch)}).status_code == 200
    tell(lite_site)  # the dry run is told as it was, although the batch waits for its next run by now
    work_off(lite_site)
    tell(lite_site)
    assert [told["Subject"] for told in mailbox.mails] == ["Dry run completed: airlines", "Import completed: airlines"]


def test_many_that_deliver_send_each_mail_once(site: Web, mailbox: Mailbox) -> None:
    """Four at once, on one catalog, share the work."""
    sent = "&sendSuccessEmailTo=" + ",".join(f"a{n}@example.org" for n in range(12))
    site.post(f"/api/import/airlines?{sent}", b"carrier,name\nAA,A\n", content_type="text/csv")
    work_off(site)
    threads = [threading.Thread(target=tell, args=(site,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(mailbox.to) == sorted(f"a{n}@example.org" for n in range(12))


def test_a_try_that_died_is_made_again(lite_site: Web, mailbox: Mailbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever dies with a delivery in hand loses it, and what he says of it afterwards counts no more."""
    imported(lite_site, b"carrier,name\nAA,A\n")
    notices_of(lite_site).fan_out()
    held = notices.claim(lite_site.catalog, Kind.MAIL, 600)
    assert held is not None and notices.claim(lite_site.catalog, Kind.MAIL, 600) is None
    later(monkeypatch, 601)
    tell(lite_site)
    assert len(mailbox.mails) == 1
    notices.give_up(lite_site.catalog, held, None, "too late")
    assert only(lite_site).state is Progress.DELIVERED


def test_old_deliveries_are_forgotten(lite_site: Web, mailbox: Mailbox) -> None:
    """Those that are over go after their time; those that wait stay."""
    imported(lite_site, b"carrier,name\nAA,A\n")
    notices_of(lite_site).fan_out()
    assert notices.forget_old(lite_site.catalog, clock.now()) == 0
    tell(lite_site)
    assert notices.counts(lite_site.catalog) == {(Kind.MAIL, Progress.DELIVERED): 1}
    assert notices.forget_old(lite_site.catalog, clock.now()) == 1
    with reading(lite_site.catalog) as connection:
        assert connection.execute(select(deliveries)).all() == connection.execute(select(noted)).all() == []


@pytest.mark.parametrize("scheme", ["smtp+starttls", "smtps"])
def test_connections_are_encrypted_before_the_password(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    """Both ways to encrypt check the server's certificate, and log in only then."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    certify("localhost", key, certificate)
    context = SSLContext(PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    logins = []

    def authenticate(_server: object, _session: object, _envelope: object, _mechanism: str, given: tuple[bytes, bytes]) -> object:
        logins.append(given)
        return AuthResult(success=True)

    server = Mailbox()
    options = {"ssl_context": context} if scheme == "smtps" else {"tls_context": context}
    server.start(**options, authenticator=authenticate, auth_required=scheme != "smtps", auth_require_tls=scheme != "smtps")
    letter = EmailMessage()
    letter["From"], letter["To"] = "a@example.org", "b@example.org"
    letter.set_content("hello")
    try:
        with pytest.raises(OSError, match="certificate verify failed"):
            mail.send(letter, f"{scheme}://me:pass%20word@localhost:{server.port}")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        mail.send(letter, f"{scheme}://me:pass%20word@localhost:{server.port}")
    finally:
        server.stop()
    assert len(server.mails) == 1 and [(login.login, login.password) for login in logins] == [(b"me", b"pass word")]  # type: ignore[attr-defined]


@pytest.mark.parametrize("url", ["smtp://me:secret@host", "http://host", "smtp://", "smtps://host:0", "smtps://host:x", "smtp://host/path"])
def test_mail_servers_that_cannot_be_meant_are_refused(url: str) -> None:
    """A password without encryption, another scheme, no host, no port or a path stop the start, and the password is not shown."""
    with pytest.raises(SettingInvalid, match="SMTP_URL is \\*\\*\\*"):
        Settings.from_environment({"SMTP_URL": url, "MAIL_FROM": "a@example.org"})


def test_a_mail_server_needs_a_sender() -> None:
    """SMTP_URL alone stops the start; so does a sender that is no address."""
    with pytest.raises(SettingInvalid, match="MAIL_FROM is unset"):
        Settings.from_environment({"SMTP_URL": "smtp://host"})
    with pytest.raises(SettingInvalid, match="MAIL_FROM is"):
        Settings.from_environment({"SMTP_URL": "smtp://host", "MAIL_FROM": "A <a@example.org>"})


def test_a_worker_delivers(target_url_sqlite: str, tmp_path: Path, redis_url: str, mailbox: Mailbox) -> None:
    """A worker, as it is started in production, sends the mail of a batch that it has carried out."""
    environment = {
        "TARGET_URL": target_url_sqlite, "CATALOG_URL": f"sqlite:///{tmp_path}/catalog.db", "SPOOL_URL": f"file:{tmp_path}/spool",
        "REDIS_URL": redis_url, "SMTP_URL": mailbox.url, "MAIL_FROM": "imports@example.org", "SWEEP_SECONDS": "0.5",
    }  # fmt: skip
    made = Site(tmp_path, environment)
    try:
        batch = batches.create(made.catalog, control=made.control, key_id="k1", addresses=["success:good@example.org"])
        batches.schedule(made.catalog, batch, batches.Options(), [(None, "things")])
        made.start_worker()
        wait_for(lambda: mailbox.mails)
    finally:
        made.close()
    assert mailbox.mails[0]["Subject"].startswith("Import completed") and mailbox.to == ["good@example.org"]
