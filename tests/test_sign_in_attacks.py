"""What somebody tries who wants into the pages, or wants others to be there as somebody else."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

import clock
from app import create_app
from catalog import keys, people, sessions
from pages import session
from tests.pages_parts import Person, page_calls
from tests.security_parts import path_of
from tests.test_security_sweep import values_for
from tests.web_parts import Web, lite, settings_for

__all__ = ["lite"]

HTTPS = "https://imports.example.org"
OPEN_PATHS = [("GET", "/sign-in"), ("POST", "/sign-in"), ("GET", "/sign-in/oidc/back?state=x")]
ODD = ("", "\xff\xfe", "\u20ac", "x" * 5000, '"', "a=b", "%00", "\\000", "lad_0_0", "../..", "{}")


def with_cookie(web: Web, method: str, path: str, cookie: str, **options: Any) -> TestResponse:
    """Make a request with a header Cookie as it stands."""
    return web.app.test_client(use_cookies=False).open(path, method=method, headers={"Cookie": cookie}, **options)


def test_odd_cookies_are_nobody(lite: Web) -> None:
    """Whatever stands in a cookie, a page answers: it leads to the sign-in, and no form is taken."""
    values = values_for(lite) | {"key_id": "x", "kind": "csv", "webhook": "x", "delivery": "x"}
    paths = [(method, path_of(rule, values)) for method, rule in page_calls(lite.app)]
    for odd in ODD:
        for name in (session.COOKIE, session.FORM_COOKIE, "lading_oidc"):
            raw = f"{name}={odd}".encode().decode("latin-1")
            for method, path in [
                ("GET", "/sign-in"),
                ("POST", "/sign-in"),
                ("GET", "/sign-in/oidc/back?state=x"),
                *paths[:: len(paths) // 3],
            ]:
                reply = with_cookie(lite, method, path, raw)
                assert reply.status_code in ((200, 303, 404) if method == "GET" else (403,)), (odd, name, method, path)


def test_cookies_of_neighbouring_hosts_are_not_ours(lite: Web) -> None:
    """Over HTTPS our cookies have a name that browsers take from this very host only; by any other name none is believed."""
    person = Person(lite, base_url=HTTPS)
    given = [cookie.partition("=")[0] for cookie in person.get("/sign-in").headers.getlist("Set-Cookie")]
    given += [cookie.partition("=")[0] for cookie in person.sign_in(lite.key).headers.getlist("Set-Cookie")]
    assert set(given) == {"__Host-lading_form", "__Host-lading_session"}
    eve = sessions.begin(lite.catalog, lite.key.split("_")[1])
    victim = Person(lite, base_url=HTTPS)
    victim.client.set_cookie("lading_session", eve, domain="imports.example.org")
    assert victim.get("/").status_code == 303


def test_no_page_can_be_framed_or_kept(lite: Web) -> None:
    """No other site can show a page of ours within its own, and no browser keeps one: refusals and the sign-in among them."""
    person = Person(lite, lite.new_key("admin"))
    for path in ("/", "/sign-in", "/keys", "/imports/1", "/nothing", "/control/nothing"):
        for reply in (person.get(path), Person(lite).get(path)):
            assert "frame-ancestors 'none'" in reply.headers["Content-Security-Policy"], path
            assert reply.headers["Cache-Control"] == "no-store", path


def test_sessions_outlive_the_process_and_no_more(lite: Web) -> None:
    """A new web process knows who is signed in, and who has signed out: neither hangs on the process that began the session."""
    stays, goes = Person(lite, lite.key), Person(lite, lite.key)
    ended = goes.client.get_cookie("lading_session")
    goes.post("/sign-out")
    fresh = create_app(lite.settings)
    kept = stays.client.get_cookie("lading_session")
    assert kept and ended
    for cookie, status in ((kept, 200), (ended, 303)):
        client = fresh.test_client()
        client.set_cookie("lading_session", cookie.value)
        assert client.get("/", buffered=True).status_code == status
    fresh.extensions["lading"].close()


def test_cookies_and_keys_each_open_their_own(lite: Web) -> None:
    """A session's cookie opens no route of the API, which has no form tokens; a key in a header opens no page."""
    person = Person(lite, lite.new_key("admin"))
    assert person.client.get("/api/batches").status_code == 401
    assert person.client.post("/api/batch", data={"control": "airlines"}).status_code == 401
    assert lite.get("/").status_code == 303


def test_a_session_ends_as_its_key_expires(lite: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """A session lasts no longer than its key, whether that is revoked or comes to its end."""
    person = Person(lite, lite.new_key("read", expires_at=clock.now() + timedelta(minutes=5)))
    assert person.get("/").status_code == 200
    real = clock.now
    monkeypatch.setattr(clock, "now", lambda: real() + timedelta(minutes=6))
    assert person.get("/").status_code == 303


def test_failures_are_counted_by_who_is_behind_the_proxy(target_url_sqlite: str, tmp_path: Path, redis_url: str) -> None:
    """Whoever tries keys through a proxy is held back without the others behind it, and cannot pass for another each time."""
    made = Web(settings_for(target_url_sqlite, tmp_path, redis_url, FORWARDED_ALLOW_IPS="127.0.0.1"))

    def tries(told: str) -> int:
        return made.get("/api/batches", key="lad_0_0", headers={"X-Forwarded-For": told}).status_code

    assert [tries(f"10.0.0.{number}, 192.0.2.7") for number in range(51)] == [401] * 50 + [429]
    assert tries("192.0.2.8") == 401
    made.close()


def test_what_a_provider_calls_people_is_text(lite: Web) -> None:
    """A name that somebody has given themselves at the provider is no markup on any page."""
    key_id = people.enter(lite.catalog, "https://p.example", "7", "<b>Ada</b><script>x()</script>\u202e", {"admin"})
    assert key_id
    person = Person(lite)
    person.client.set_cookie("lading_session", sessions.begin(lite.catalog, key_id))
    for path in ("/", "/keys"):
        page = person.get(path)
        assert page.status_code == 200 and "&lt;b&gt;Ada" in page.text and "<b>Ada" not in page.text and "\u202e" not in page.text
    assert keys.verify(lite.catalog, f"lad_{key_id}_") is None
