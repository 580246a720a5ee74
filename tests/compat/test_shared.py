"""What the routes for other systems' clients share: how their queries, bodies, keys and refusals are read and told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Response, request
from marshmallow import fields

from app import BLUEPRINTS, create_app
from errors import Refusal
from routes import compat, replies
from routes.auth import requires
from routes.compat import system
from schemas.requests import ForeignRequest
from tests.web_parts import Web, settings_for


class Fields(ForeignRequest):
    """The fields of the routes below."""

    mode = fields.String(load_default=None)
    name = fields.String(load_default=None)


@pytest.fixture
def foreign(target_url_sqlite: str, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """Give the application with a system of this test's own."""
    routes = system.blueprint("other", "/other/<tenant>", lambda refusal: replies.json({"said": refusal.code}, refusal.status))

    @routes.get("/ask")
    def ask(tenant: str) -> Response:
        return replies.json({"tenant": tenant} | system.of_query(Fields()))

    @routes.post("/send")
    @requires("import", key_header="X-Other-Key")
    def send(tenant: str) -> Response:
        return replies.json({"tenant": tenant} | system.of_body(Fields()))

    @routes.get("/fail")
    def fail(tenant: str) -> Response:
        raise Refusal(409, "taken", tenant) if request.args else RuntimeError("secret")

    monkeypatch.setattr(compat, "BLUEPRINTS", (routes,))
    monkeypatch.setattr("app.BLUEPRINTS", (*BLUEPRINTS, routes))
    made = Web(settings_for(target_url_sqlite, tmp_path, redis_url))
    yield made
    made.close()


def test_second_question_marks(foreign: Web) -> None:
    """Where other systems' paths begin, a `?` within the query counts as `&`; an encoded one, and one on our own paths, is what it is."""
    assert foreign.get("/other/t/ask?mode=a?name=b").get_json() == {"tenant": "t", "mode": "a", "name": "b"}
    assert foreign.get("/other/t/ask?x=1?mode=a?name=b&y?").get_json() == {"tenant": "t", "mode": "a", "name": "b"}
    assert foreign.get("/other/t/ask?mode=a%3Fname=b").get_json() == {"tenant": "t", "mode": "a?name=b", "name": None}
    assert foreign.get("/api/batches?limit=1?state=failed").status_code == 400


def test_unknown_names_are_passed_over(foreign: Web) -> None:
    """Names that a route does not know are passed over, twice too; known ones twice, or in the query of a POST, are refused."""
    assert foreign.get("/other/t/ask?a=1&a=2&mode=x&{body}").get_json()["mode"] == "x"
    assert foreign.get("/other/t/ask?mode=x&mode=y").status_code == 400
    assert foreign.post("/other/t/send?a=1", {"mode": "x", "b": "2"}).get_json()["mode"] == "x"
    assert foreign.post("/other/t/send?mode=x", {"b": "2"}).status_code == 400
    assert foreign.get("/api/batches?nonsense=1").status_code == 400


def test_a_key_in_a_header_of_theirs(foreign: Web) -> None:
    """A system's own header takes a key on its routes alone, and only where there is no Authorization."""
    client = foreign.app.test_client()
    own = {"X-Other-Key": foreign.key}
    assert client.post("/other/t/send", headers=own).status_code == 200
    assert client.post("/other/t/send", headers=own | {"Authorization": "apikey lad_0_0"}).status_code == 401
    assert client.post("/other/t/send", headers={"X-Other-Key": "lad_0_0"}).status_code == 401
    assert client.post("/api/batch", headers=own).status_code == 401


def test_refusals_in_their_form(foreign: Web) -> None:
    """Whatever is raised is told in the system's form, a failure of ours without a word of what it was."""
    refused = foreign.get("/other/t/fail?x=1")
    assert (refused.status_code, refused.get_json()) == (409, {"said": "taken"})
    foreign.app.testing = False
    failed = foreign.get("/other/t/fail")
    assert (failed.status_code, failed.get_json()) == (500, {"said": "internal_error"})
    assert foreign.get("/other/t/nothing").status_code == 404


def test_every_system_has_a_prefix() -> None:
    """No system's routes begin where ours do, so that none of its rules reach them."""
    assert all(prefix.count("/") > 1 and prefix != "/api/" for prefix in compat.prefixes())


ORIGIN = "https://app.example.org"


@pytest.fixture
def shared(target_url_sqlite: str, tmp_path: Path, redis_url: str) -> Iterator[Web]:
    """Give the application with an origin that may call it."""
    made = Web(settings_for(target_url_sqlite, tmp_path, redis_url, CORS_ORIGINS=f"{ORIGIN}, http://localhost:3000"))
    yield made
    made.close()


ASKED = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization, content-type"}


def test_pages_of_an_allowed_origin(shared: Web) -> None:
    """A page of an allowed origin may ask with a key and read replies and refusals; the question before it needs none."""
    reply = shared.app.test_client().options("/api/batch", headers={"Origin": ORIGIN} | ASKED)
    assert (reply.status_code, reply.headers["Access-Control-Allow-Origin"]) == (204, ORIGIN)
    assert reply.headers["Access-Control-Allow-Headers"] == "authorization, content-type"
    assert "POST" in reply.headers["Access-Control-Allow-Methods"]
    for path, status in (("/api/batches", 200), ("/api/batch/1", 404), ("/api/nothing", 404)):
        reply = shared.get(path, headers={"Origin": ORIGIN})
        assert (reply.status_code, reply.headers["Access-Control-Allow-Origin"]) == (status, ORIGIN)
        assert "Origin" in reply.headers["Vary"]


def test_pages_of_other_origins(shared: Web) -> None:
    """No other origin is allowed anything, nor one that only looks like it, and cookies are never let through (T87)."""
    for origin in ("https://app.example.org.evil.com", "http://app.example.org", "null", "*", "https://APP.example.org", ORIGIN + "/"):
        asked = shared.app.test_client().options("/api/batch", headers={"Origin": origin} | ASKED)
        got = shared.get("/api/batches", headers={"Origin": origin})
        for reply in (asked, got):
            assert not [name for name, _ in reply.headers if name.startswith("Access-Control")]
        assert "Origin" in got.headers["Vary"]
    assert "Access-Control-Allow-Origin" not in shared.get("/healthz", headers={"Origin": ORIGIN}).headers
    allowed = shared.get("/api/batches", headers={"Origin": ORIGIN})
    assert "Access-Control-Allow-Credentials" not in allowed.headers
    odd = {"Origin": ORIGIN} | ASKED | {"Access-Control-Request-Headers": "x: y, <z>"}
    assert "Access-Control-Allow-Headers" not in shared.app.test_client().options("/api/batch", headers=odd).headers


def test_no_origin_unless_set(foreign: Web) -> None:
    """Where no setting names an origin nothing is said of any, and `*` allows all."""
    reply = foreign.get("/api/batches", headers={"Origin": ORIGIN})
    assert not [name for name, _ in reply.headers if name.startswith("Access-Control") or name == "Vary"]
    settings = foreign.settings
    every = create_app(type(settings).from_environment({"CORS_ORIGINS": "*", "CATALOG_URL": settings.catalog_url}))
    reply = every.test_client().get("/api/batches", headers={"Origin": ORIGIN})
    assert (reply.status_code, reply.headers["Access-Control-Allow-Origin"]) == (401, ORIGIN)
    every.extensions["lading"].close()
