"""Mail addresses for batches that name none, and a mail that tries whether any would arrive."""

from __future__ import annotations

from catalog import notices
from tests.notice_parts import ONE_FILE, Mailbox, lite_site, mailbox, site, tell
from tests.pages_parts import Person, words
from tests.security_parts import work_off
from tests.web_parts import Web, lite, web

__all__ = ["lite", "lite_site", "mailbox", "site", "web"]


def imported(web: Web, data: bytes = b"carrier,name\nAA,American\n", query: str = "") -> int:
    """Import some airlines to the end."""
    reply = web.post(f"/api/import/airlines?{query}", data, content_type="text/csv")
    assert reply.status_code == 202, reply.text
    work_off(web)
    return int(reply.text)


def say(web: Web, **form: str) -> str:
    """Set addresses as an administrator; return the reply."""
    reply = web.post("/api/addresses", form, web.new_key("admin"))
    assert reply.status_code == 200, reply.text
    return reply.text


def test_a_batch_that_names_nobody_is_told_to_the_control_files_addresses(site: Web, mailbox: Mailbox) -> None:
    """Those of the control file's name are told, else those of all; a batch's own address takes their place for its outcome."""
    imported(site)
    tell(site)
    assert mailbox.to == []
    assert say(site, sendSuccessEmailTo="all@example.org", sendFailureEmailTo="all@example.org") == "SET"
    imported(site)
    tell(site)
    assert mailbox.to == ["all@example.org"]
    assert say(site, control="airlines", sendFailureEmailTo="b@example.org,a@example.org") == "SET"
    imported(site)  # of success nobody is told, as its own addresses say
    imported(site, b"carrier,name\nTOOLONG,x\n")
    tell(site)
    assert mailbox.to[1:] == ["a@example.org", "b@example.org"]
    imported(site, b"carrier,name\nTOOLONG,x\n", "sendFailureEmailTo=own@example.org")
    tell(site)
    assert mailbox.to[3:] == ["own@example.org"]
    admin = site.new_key("admin")
    assert site.get("/api/addresses", admin).text == "*\tall@example.org\tall@example.org\nairlines\t\tb@example.org,a@example.org\n"
    assert say(site, control="airlines") == say(site) == "REMOVED"
    assert site.get("/api/addresses", admin, headers={"Accept": "application/json"}).get_json() == {"addresses": []}


def test_a_name_that_has_moved_on_is_still_told(lite_site: Web, mailbox: Mailbox) -> None:
    """A batch of an older version of a control file is told to whom its name says, though the name points elsewhere now."""
    say(lite_site, control="airlines", sendSuccessEmailTo="a@example.org")
    digest = lite_site.control(ONE_FILE)
    lite_site.control(ONE_FILE + b"# newer\n")
    reply = lite_site.post(f"/api/import/{digest}", b"carrier,name\nAA,x\n", content_type="text/csv")
    assert reply.status_code == 202, reply.text
    work_off(lite_site)
    tell(lite_site)
    assert mailbox.to == ["a@example.org"]


def test_what_is_refused(lite: Web) -> None:
    """An unknown name, no addresses, and keys without `admin` are refused; nothing changes."""
    admin = lite.new_key("admin")
    assert lite.post("/api/addresses", {"control": "none", "sendSuccessEmailTo": "a@example.org"}, admin).status_code == 404
    assert lite.post("/api/addresses", {"sendSuccessEmailTo": "a@example.org\r\nBcc: b@example.org"}, admin).status_code == 400
    for path in ("/api/addresses", "/api/addresses/test"):
        assert lite.post(path, {"to": "a@example.org"}).status_code == 403
    assert lite.post("/api/addresses/test", {"to": "a@example.org"}, admin).status_code == 409
    assert lite.get("/api/addresses", admin).text == ""


def test_a_test_mail(lite_site: Web, mailbox: Mailbox) -> None:
    """A test mail goes out at once; what the mail server says against it is told, and no delivery is noted."""
    admin = lite_site.new_key("admin")
    assert lite_site.post("/api/addresses/test", {"to": "a@example.org,b@example.org"}, admin).text == "SENT"
    assert mailbox.to == ["a@example.org", "b@example.org"] and mailbox.mails[0]["Subject"] == "A test of Lading's mails"
    mailbox.answer = "550 no such mailbox"
    refused = lite_site.post("/api/addresses/test", {"to": "c@example.org"}, admin)
    assert refused.status_code == 422 and "no such mailbox" in refused.text
    mailbox.stop()
    assert lite_site.post("/api/addresses/test", {"to": "c@example.org"}, admin).status_code == 422
    assert notices.listed(lite_site.catalog) == []


def test_addresses_on_the_page(lite_site: Web, mailbox: Mailbox) -> None:
    """They are set, shown and removed on the page of notices, and a test mail is sent from there."""
    person = Person(lite_site, lite_site.new_key("admin"))
    form = {"control": "airlines", "sendSuccessEmailTo": "", "sendFailureEmailTo": "a@example.org"}
    assert person.post("/notices/addresses", form).status_code == 303
    assert "airlines nobody a@example.org" in words(person.get("/notices"))
    assert person.post("/notices/addresses", {"control": "airlines"}).status_code == 303
    assert "a@example.org" not in words(person.get("/notices")).replace("@example.org, you", "")
    sent = person.post("/notices/addresses/test", {"to": "b@example.org"})
    assert "took a mail to b@example.org" in words(sent) and mailbox.to == ["b@example.org"]
    mailbox.answer = "550 no such mailbox"
    refused = person.post("/notices/addresses/test", {"to": "b@example.org"})
    assert refused.status_code == 422 and "no such mailbox" in words(refused)
