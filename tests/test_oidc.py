"""Signing in by an OpenID provider: who gets in, what is believed of a provider's word, and what a broken or lying provider can do."""

from __future__ import annotations

import base64
import hmac
import json
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
import requests
from click.testing import CliRunner
from joserfc.jwk import ECKey
from werkzeug.test import TestResponse

import cli
import clock
from catalog import keys, people
from tests.engine_parts import sql
from tests.oidc_parts import BACK, CLIENT, OPTIONS, SECRET, SITE, Provider, new_key, running, signed
from tests.pages_parts import Person, words
from tests.web_parts import CONTROL, Web, settings_for, web

__all__ = ["web"]


@pytest.fixture
def provider() -> Iterator[Provider]:
    """Give a provider that knows Ada, one of the engineers."""
    with running(Provider(back=BACK)) as made:
        yield made


@pytest.fixture
def site(provider: Provider, target_url_sqlite: str, tmp_path: Path, redis_url: str) -> Iterator[Web]:
    """Give the application, to whose pages people sign in by it."""
    made = with_settings(provider, target_url_sqlite, tmp_path, redis_url)
    yield made
    made.close()


def with_settings(provider: Provider, target_url: str, folder: Path, redis_url: str, **more: str) -> Web:
    """Make the application with these settings besides."""
    sql(target_url, "CREATE TABLE IF NOT EXISTS airlines (carrier varchar(2) PRIMARY KEY, name text NOT NULL)")
    return Web(settings_for(target_url, folder, redis_url, OIDC_ISSUER=provider.address, **OPTIONS | more))


def somebody(web: Web) -> Person:
    """Give somebody at a browser."""
    return Person(web, base_url=SITE)


def to_provider(person: Person, following: str = "") -> str:
    """Go to the provider; return the address at which it is asked."""
    reply = person.get("/sign-in/oidc" + (f"?next={following}" if following else ""))
    assert reply.status_code == 303, words(reply)
    return str(reply.headers["Location"])


def said_by(address: str) -> str:
    """Say to the provider who one is; return the path by which it sends the browser back."""
    reply = requests.post(address, allow_redirects=False, timeout=10)
    assert reply.status_code == 302, reply.text
    return str(reply.headers["Location"]).removeprefix(SITE)


def signing_in(person: Person, following: str = "") -> TestResponse:
    """Sign in; return what comes of it."""
    return person.get(said_by(to_provider(person, following)))


def has_session(person: Person) -> bool:
    """Tell whether somebody is signed in."""
    return person.get("/").status_code == 200


def test_the_whole_way(site: Web, provider: Provider) -> None:
    """By authorization code, PKCE, state and nonce somebody is signed in who may be, and is out after signing out."""
    person = somebody(site)
    assert f'href="{SITE}/sign-in/oidc?next=%2Fcontrols"' in person.get("/sign-in?next=/controls").text
    address = to_provider(person, "/controls")
    asked = {name: value for name, (value,) in parse_qs(urlsplit(address).query).items()}
    assert asked["response_type"] == "code" and asked["code_challenge_method"] == "S256" and asked["redirect_uri"] == BACK
    assert min(map(len, (asked["state"], asked["nonce"], asked["code_challenge"]))) >= 43
    reply = person.get(said_by(address))
    assert (reply.status_code, reply.headers["Location"]) == (303, "/controls")
    cookie = next(c for c in reply.headers.getlist("Set-Cookie") if c.startswith("__Host-lading_session="))
    assert {"HttpOnly", "SameSite=Lax", "Secure", "Path=/"} <= set(cookie.split("; "))
    page = person.get("/controls")
    assert page.status_code == 200 and "Ada Lovelace (ada)" in words(page)
    assert person.get("/keys").status_code == 403
    assert person.client.post("/sign-out", base_url=SITE).status_code == 403  # a form of another site
    stolen = person.client.get_cookie("__Host-lading_session", "imports.example.org")
    assert person.post("/sign-out").status_code == 303 and not has_session(person)
    assert stolen
    person.client.set_cookie("__Host-lading_session", stolen.value, domain="imports.example.org")
    assert not has_session(person)


def test_what_somebody_does_is_told_by_their_name(site: Web, provider: Provider) -> None:
    """A person is one key at every sign-in, named as the provider says, with the permissions of that day; what they made is theirs."""
    provider.person |= {"groups": ["chiefs"], "email": "Ada@Example.org", "email_verified": True}
    site.control()
    person = somebody(site)
    assert signing_in(person).status_code == 303
    made = person.post("/import", {"control": "airlines", "comment": "by hand"})
    assert made.status_code == 303, words(made)
    assert "Ada Lovelace (ada@example.org)" in words(person.get("/imports/rows", headers={"HX-Request": "true"}))
    assert "Ada Lovelace (ada@example.org)" in words(person.get("/keys"))
    (key,) = [key for key in keys.all_keys(site.catalog) if key.is_person]
    assert key.permissions == {"admin"}
    provider.person |= {"groups": ["engineers", "cooks"], "name": "Ada King"}
    assert signing_in(somebody(site)).status_code == 303
    assert person.get("/keys").status_code == 403  # in the older session too
    (again,) = [key for key in keys.all_keys(site.catalog) if key.is_person]
    assert (again.id, again.permissions, again.name) == (key.id, {"read:all"}, "Ada King (ada@example.org)")
    assert keys.verify(site.catalog, f"lad_{key.id}_{'A' * 43}") is None


def _part(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _unsigned(claims: dict[str, Any], _key: Any) -> str:
    return f"{_part({'alg': 'none'})}.{_part(claims)}."


def _tampered(claims: dict[str, Any], key: Any) -> str:
    head, _, end = signed(claims, key).split(".")
    return f"{head}.{_unsigned(claims | {'sub': 'eve'}, key).split('.')[1]}.{end}"


def _by_public_key(claims: dict[str, Any], key: Any) -> str:
    said = f"{_part({'alg': 'HS256', 'kid': key.kid})}.{_part(claims)}"
    return f"{said}.{_part(hmac.digest(key.as_pem(private=False), said.encode(), 'sha256'))}"


def _with(**changed: Any) -> Any:
    return lambda claims, key: signed({name: value for name, value in (claims | changed).items() if value is not None}, key)


OWN = ECKey.generate_key("P-256", {"kid": "own"})
NOW = int(clock.now().timestamp())
LIES = {
    "another issuer": _with(iss="https://evil.example"),
    "no issuer": _with(iss=None),
    "for another service": _with(aud="another"),
    "for several, not said to whom": _with(aud=[CLIENT, "another"]),
    "for several, given to another": _with(aud=[CLIENT, "another"], azp="another"),
    "for nobody": _with(aud=None),
    "expired": _with(exp=NOW - 120),
    "never expires": _with(exp=None),
    "of tomorrow": _with(iat=NOW + 86_400),
    "not valid yet": _with(nbf=NOW + 86_400),
    "another sign-in's": _with(nonce="another"),
    "no sign-in's": _with(nonce=None),
    "another access token's": _with(at_hash="AAAAAAAAAAAAAAAAAAAAAA"),
    "nobody": _with(sub=None),
    "no text for a name": _with(sub=7),
    "unsigned": _unsigned,
    "altered": _tampered,
    "signed with the public key": _by_public_key,
    "signed with another key of that name": lambda claims, key: signed(claims, new_key(key.kid)),
    "signed with a key of its own": lambda claims, _: signed(claims, OWN, "ES256", jwk=OWN.as_dict(private=False)),
    "signed with a key that is elsewhere": lambda claims, key: signed(claims, new_key("own"), jku="https://evil.example/keys"),
    "none": lambda claims, key: "none",
    "parts of nothing": lambda claims, key: "..",
}


def test_a_false_word_is_not_taken(site: Web, provider: Provider, caplog: pytest.LogCaptureFixture) -> None:
    """No ID token that is unsigned, signed by another, not for us, not for now or not for this sign-in signs anybody in (T87)."""
    caplog.set_level(logging.DEBUG)
    for name, lie in LIES.items():
        provider.lie, person = lie, somebody(site)
        reply = signing_in(person)
        assert (reply.status_code, has_session(person)) == (401, False), name
        assert "could not be taken" in words(reply), name
    assert not [key for key in keys.all_keys(site.catalog) if key.is_person]
    assert "oidc" not in {record.name for record in caplog.records if record.levelno >= logging.ERROR}
    for record in caplog.records:
        if not record.name.startswith(("urllib3", "werkzeug", "authlib.oauth2.rfc")):  # of provider and test
            assert not re.search(r"eyJ[\w-]+\.|code=|state=", record.getMessage()) and SECRET not in record.getMessage(), record


def test_keys_change(site: Web, provider: Provider) -> None:
    """A key that the provider begins to use counts at once, and one that it shows no more does not; other kinds are passed over."""
    assert has_session(_after(somebody(site)))
    old = provider.key
    provider.rotate("two")
    provider.shown = [{"kty": "OKP", "crv": "X25519", "x": "AA"}, {"kty": "new"}, provider.key.as_dict(private=False)]
    assert has_session(_after(somebody(site)))
    provider.lie = lambda claims, _key: signed(claims, old)
    assert not has_session(_after(somebody(site)))
    provider.lie, provider.shown = None, [provider.key.as_dict(private=False) | {"use": "enc"}]
    assert not has_session(_after(somebody(site)))


def _after(person: Person) -> Person:
    signing_in(person)
    return person


def test_a_sign_in_belongs_to_its_browser(site: Web, provider: Provider) -> None:
    """Whoever is sent an address of another's sign-in is not signed in by it, nor can a stolen code be used, nor one used twice (T87)."""
    eve, victim = somebody(site), somebody(site)
    path = said_by(to_provider(eve))
    assert victim.get(path).status_code == 400 and not has_session(victim)
    to_provider(victim)
    assert victim.get(path).status_code == 400 and not has_session(victim)
    # A code that was seen on its way is bound to the secret of the browser that began.
    mine = parse_qs(urlsplit(to_provider(victim)).query)["state"][0]
    stolen = parse_qs(urlsplit(path).query)["code"][0]
    assert victim.get(f"/sign-in/oidc/back?code={stolen}&state={mine}").status_code == 401 and not has_session(victim)
    path = said_by(to_provider(victim))
    cookie = victim.client.get_cookie("__Host-lading_oidc", "imports.example.org")
    assert victim.get(path).status_code == 303 and has_session(victim)
    assert victim.get(path).status_code == 400
    assert cookie
    victim.client.set_cookie("__Host-lading_oidc", cookie.value, domain="imports.example.org")
    assert victim.get(path).status_code == 401
    for wrong in ("", "?code=x", "?state=x", "?state=%F0%9F%98%80&code=x", "?error=access_denied"):
        assert somebody(site).get(f"/sign-in/oidc/back{wrong}").status_code == 400


def test_what_comes_back_instead(site: Web, provider: Provider) -> None:
    """The provider's refusal is told without a word that others could put there; another provider's reply, or no code, is none."""
    for more, status, said in (
        ("error=access_denied", 401, "(access_denied)"),
        ("error=Call%20us%20at%20555", 401, "has not signed you in."),
        ("", 401, "could not be taken"),
        ("code=%00%F0%9F%98%80", 400, ""),
        ("code=%F0%9F%98%80", 401, "could not be taken"),
    ):
        person = somebody(site)
        state = parse_qs(urlsplit(to_provider(person)).query)["state"][0]
        reply = person.get(f"/sign-in/oidc/back?state={state}&{more}")
        assert reply.status_code == status and said in words(reply), more
        assert "Call us" not in reply.text and not has_session(person)
    for issuer, status in (("https://evil.example", 401), (provider.address, 303)):
        person = somebody(site)
        assert person.get(f"{said_by(to_provider(person))}&{urlencode({'iss': issuer})}").status_code == status


def test_nobody_is_sent_elsewhere(site: Web) -> None:
    """After the sign-in one is on a page of this site, whatever the address said, or somebody has put into the cookie since."""
    for following in ("https://evil.example", "//evil.example", "/\\evil.example", "/%09/evil.example", "javascript:x"):
        assert signing_in(somebody(site), following).headers["Location"] == "/", following
        person = somebody(site)
        path = said_by(to_provider(person))
        cookie = person.client.get_cookie("__Host-lading_oidc", "imports.example.org")
        assert cookie
        person.client.set_cookie("__Host-lading_oidc", f"{cookie.value}{following}", domain="imports.example.org")
        assert person.get(path).headers["Location"] == "/", following


def test_who_is_let_in_no_more(site: Web, provider: Provider) -> None:
    """Whoever is in no group that may, or whose key was revoked, gets no session, and has none left from before."""
    provider.person["groups"] = ["cooks"]
    cook = somebody(site)
    reply = signing_in(cook)
    assert reply.status_code == 403 and "Ask an administrator" in words(reply) and not has_session(cook)
    assert not [key for key in keys.all_keys(site.catalog) if key.is_person]
    provider.person["groups"] = ["engineers"]
    before = _after(somebody(site))
    assert has_session(before)
    provider.person["groups"] = []
    assert signing_in(somebody(site)).status_code == 403 and not has_session(before)
    provider.person["groups"] = ["engineers"]
    again = _after(somebody(site))
    (key,) = [key for key in keys.all_keys(site.catalog) if key.is_person]
    assert has_session(again) and keys.revoke(site.catalog, key.id)
    assert not has_session(again)
    group = next(group for group in cli.commands(site.settings) if group.name == "key")
    assert [CliRunner().invoke(group, ["readmit", key.id]).exit_code for _ in range(2)] == [0, 1]
    assert not has_session(again)  # which may have been stolen
    assert has_session(_after(somebody(site))) and keys.revoke(site.catalog, key.id)
    assert signing_in(somebody(site)).status_code == 403
    secret = site.key.split("_")[1]
    assert keys.revoke(site.catalog, secret) and CliRunner().invoke(group, ["readmit", secret]).exit_code == 1
    assert keys.verify(site.catalog, site.key) is None


def test_a_provider_that_does_not_work(site: Web, provider: Provider, target_url_sqlite: str, tmp_path: Path, redis_url: str) -> None:
    """Where it is down, is another, or sends secrets in the clear, that is told plainly, and those who have a key sign in as ever."""
    provider.metadata = {"issuer": "https://evil.example"}
    person = somebody(site)
    for wrong in (
        {"issuer": "https://evil.example"}, {"token_endpoint": "http://evil.example/token"}, {"jwks_uri": None},
        {"authorization_endpoint": "javascript:alert(1)"}, {"authorization_endpoint": "https://[/"},
    ):  # fmt: skip
        provider.metadata = wrong
        reply = person.get("/sign-in/oidc")
        assert reply.status_code == 503 and "cannot be reached" in words(reply) and "Location" not in reply.headers, wrong
    provider.metadata = {}
    for attribute, value in (("auth_method", "none"), ("shown", [{"kty": "RSA"}]), ("shown", "x")):
        path = said_by(to_provider(person))
        before = getattr(provider, attribute)
        setattr(provider, attribute, value)
        assert person.get(path).status_code == 503, attribute
        setattr(provider, attribute, before)
    provider.metadata, fresh = {"jwks_uri": f"{provider.address}/elsewhere"}, None
    fresh = with_settings(provider, target_url_sqlite, tmp_path, redis_url)
    assert signing_in(somebody(fresh)).status_code == 503  # no redirect is followed
    fresh.close()
    gone = with_settings(Provider(address="http://127.0.0.1:9"), target_url_sqlite, tmp_path, redis_url)
    person = somebody(gone)
    assert person.get("/sign-in/oidc").status_code == 503
    assert person.sign_in(gone.key).status_code == 303 and has_session(person)
    gone.close()


def test_a_secret_in_the_form(site: Web, provider: Provider) -> None:
    """A provider that takes the service's secret in the form only gets it there."""
    provider.auth_method = "client_secret_post"
    assert has_session(_after(somebody(site)))


def test_a_former_session_is_over(site: Web, provider: Provider) -> None:
    """Signing in, either way, ends the session that the browser had: nothing that knew it goes on as the one who came after."""
    person = somebody(site)
    for sign_in in (lambda: person.sign_in(site.key), lambda: signing_in(person), lambda: person.sign_in(site.key)):
        before = person.client.get_cookie("__Host-lading_session", "imports.example.org")
        assert sign_in().status_code == 303
        after = person.client.get_cookie("__Host-lading_session", "imports.example.org")
        assert after and has_session(person)
        if before:
            other = somebody(site)
            other.client.set_cookie("__Host-lading_session", before.value, domain="imports.example.org")
            assert not has_session(other) and before.value != after.value


def test_two_first_sign_ins_at_once(web: Web) -> None:
    """A person whose first sign-ins come twice has one key; the same subject of another issuer is another person."""
    one = people.enter(web.catalog, "https://a.example", "7", "Ada", {"read"})
    assert one == people.enter(web.catalog, "https://a.example", "7", "Ada", {"read"}) != None  # noqa: E711
    assert one != people.enter(web.catalog, "https://b.example", "7", "Ada", {"read"})


def test_without_a_provider(target_url_sqlite: str, tmp_path: Path, redis_url: str) -> None:
    """Where no provider is set, nothing leads to one."""
    made = Web(settings_for(target_url_sqlite, tmp_path, redis_url))
    person = somebody(made)
    assert "oidc" not in person.get("/sign-in").text
    assert person.get("/sign-in/oidc").status_code == person.get("/sign-in/oidc/back").status_code == 404
    made.close()


def test_control_is_not_needed(site: Web) -> None:
    """An engineer, who may see all, sees the imports of keys."""
    site.control(CONTROL)
    site.batch(comment="of a key")
    assert "of a key" in words(_after(somebody(site)).get("/"))
