"""Who may see the pages: signing in, sessions, forms, and the commands that print an address."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from click.testing import CliRunner

import cli
import clock
from catalog import keys
from tests.pages_parts import Person, page_calls, words
from tests.security_parts import SAFE_HEADERS, path_of
from tests.test_security_sweep import values_for
from tests.web_parts import Web, lite, web

__all__ = ["lite", "web"]


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """Give how far the clock is ahead, as a list of one that tests change."""
    ahead, real = [timedelta()], clock.now
    monkeypatch.setattr(clock, "now", lambda: real() + ahead[0])
    return ahead


def test_a_key_that_may_read_signs_in(web: Web) -> None:
    """A key with `read` or `admin` opens the pages, by a cookie that no script can read and that is not the key."""
    for permission in ("read", "admin", "read:all"):
        key, person = web.new_key(permission), Person(web)
        reply = person.sign_in(key)
        cookie = next(c for c in reply.headers.getlist("Set-Cookie") if c.startswith("lading_session="))
        assert {"HttpOnly", "SameSite=Lax", "Path=/"} <= set(cookie.split("; ")) and "Secure" not in cookie
        assert key.split("_")[2] not in cookie
        assert "Recent imports" in words(person.get("/"))


def test_cookies_are_for_tls_where_there_is_tls(lite: Web) -> None:
    """Over HTTPS the session's cookie is never sent in the clear."""
    reply = Person(lite, base_url="https://imports.example.org").sign_in(lite.key)
    assert all("Secure" in cookie for cookie in reply.headers.getlist("Set-Cookie"))


def test_other_keys_do_not(lite: Web) -> None:
    """A key that may only import, and what is no valid key, stay outside; of the latter nothing is told."""
    assert Person(lite).sign_in(lite.new_key("import", "control")).status_code == 403
    expired = lite.new_key("admin", expires_at=clock.now() - timedelta(seconds=1))
    said = {words(Person(lite).sign_in(key)) for key in ("", "x", "lad_0_0", lite.key[:-4] + "AAAA", expired)}
    assert len(said) == 1 and "This is no valid key." in said.pop()


def test_trying_keys_is_held_back(lite: Web) -> None:
    """After 50 failures in five minutes an address is told to wait, as with the API."""
    person = Person(lite)
    person.get("/sign-in")
    replies = [person.post("/sign-in", {"key": "lad_0_0"}) for _ in range(51)]
    assert [reply.status_code for reply in replies] == [401] * 50 + [429]
    assert replies[-1].headers["Retry-After"] == "300"


def test_nothing_without_a_session(lite: Web) -> None:
    """Every page leads those who are not signed in to the sign-in, and changes nothing; a new page joins by itself (T87)."""
    values, person = values_for(lite) | {"key_id": "x", "kind": "csv", "webhook": "x", "delivery": "x"}, Person(lite)
    for method, rule in page_calls(lite.app):
        path = path_of(rule, values)
        reply = person.get(path) if method == "GET" else person.post(path)
        assert reply.status_code == 303 and reply.headers["Location"].startswith("/sign-in"), (method, rule)
        part = person.client.open(path, method=method, headers={"HX-Request": "true", "X-Form-Token": person.token()})
        assert part.status_code == 401 and part.headers["HX-Redirect"] == "/sign-in", (method, rule)
        assert all(reply.headers.get(name) for name in SAFE_HEADERS)


def test_forms_of_others_are_refused(lite: Web) -> None:
    """Whatever changes something wants what only a page of ours has: no form of another site works, signed in or not."""
    values = values_for(lite) | {"key_id": "x", "kind": "csv", "webhook": "x", "delivery": "x"}
    for person in (Person(lite), Person(lite, lite.new_key("admin"))):
        other = Person(lite, lite.key).token()
        for method, rule in [*page_calls(lite.app), ("POST", next(r for r in lite.app.url_map.iter_rules("pages.sign_in.sign_in")))]:
            if method == "GET":
                continue
            for options in ({}, {"data": {"form_token": other}}, {"data": b"x", "content_type": "multipart/form-data; boundary=b"}):
                reply = person.client.open(path_of(rule, values), method=method, **options)
                assert reply.status_code == 403, (method, rule, options)


def test_a_session_ends_with_its_key(web: Web) -> None:
    """A revoked key's sessions are over at once, and so is one that was signed out."""
    key = web.new_key("read")
    first, second = Person(web, key), Person(web, key)
    stolen = first.client.get_cookie("lading_session")
    assert stolen and first.post("/sign-out").headers["Location"] == "/sign-in"
    first.client.set_cookie("lading_session", stolen.value)
    assert first.get("/").status_code == 303
    assert second.get("/").status_code == 200
    keys.revoke(web.catalog, key.split("_")[1])
    assert second.get("/").status_code == 303


def test_a_session_ends_when_nobody_uses_it(web: Web, now: list[timedelta]) -> None:
    """After an hour without use a session is over; what an open page asks by itself is no use; twelve hours are the most."""
    idle, busy = Person(web, web.key), Person(web, web.key)
    for minutes in range(0, 60, 20):
        now[0] = timedelta(minutes=minutes)
        assert idle.get("/imports/rows", headers={"HX-Request": "true"}).status_code == 200
        assert busy.get("/").status_code == 200
    now[0] = timedelta(minutes=61)
    assert idle.get("/").status_code == 303
    for minutes in range(61, 720, 50):
        now[0] = timedelta(minutes=minutes)
        assert busy.get("/").status_code == 200
    now[0] = timedelta(hours=12, minutes=1)
    assert busy.get("/").status_code == 303


def link(web: Web, *words: str) -> str:
    """Return what `flask admin link` prints."""
    group = next(group for group in cli.commands(web.settings) if group.name == "admin")
    done = CliRunner().invoke(group, ["link", *words])
    assert done.exit_code == 0, done.output
    return done.output.strip()


def test_an_address_signs_in_once(web: Web, now: list[timedelta]) -> None:
    """What `flask admin link` prints signs in once, by its button and not by being looked at, and not after a quarter of an hour."""
    address = link(web)
    assert re.fullmatch(r"http://127\.0\.0\.1:8000/sign-in\?code=[\w-]{43}", address)
    path, code = address.removeprefix("http://127.0.0.1:8000"), address.partition("=")[2]
    person = Person(web)
    assert person.get(path).status_code == person.get(path).status_code == 200
    assert person.post("/sign-in", {"code": code}).headers["Location"] == "/"
    assert "Recent imports" in words(person.get("/"))
    assert Person(web).post("/sign-in", {"code": code}).status_code == 401
    late = link(web).partition("=")[2]
    now[0] = timedelta(minutes=16)
    assert Person(web).post("/sign-in", {"code": late}).status_code == 401


def test_an_address_for_a_key(web: Web) -> None:
    """With `--key` the session is that key's and sees what the key sees; a key that is not valid gets none."""
    web.batch(comment="of the first")
    reader = web.new_key("read")
    person = Person(web)
    person.post("/sign-in", {"code": link(web, "--key", reader.split("_")[1]).partition("=")[2]})
    assert "of the first" not in words(person.get("/"))
    keys.revoke(web.catalog, reader.split("_")[1])
    group = next(group for group in cli.commands(web.settings) if group.name == "admin")
    assert CliRunner().invoke(group, ["link", "--key", reader.split("_")[1]]).exit_code == 1


@pytest.mark.parametrize("next_path", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/x\r\ny", "x"])
def test_nobody_is_sent_elsewhere(lite: Web, next_path: str) -> None:
    """After the sign-in one lands on a page of ours, whatever the address said."""
    assert Person(lite).sign_in(lite.key, next=next_path).headers["Location"] == "/"
    assert Person(lite).sign_in(lite.key, next="/?q=x").headers["Location"] == "/?q=x"
