"""Every route, with every key that should not open it and every value that should not be sent. A new route joins by itself."""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from werkzeug.test import TestResponse

import clock
import routes.status
from catalog import keys, notices
from catalog.database import writing
from catalog.notices import Kind, NewDelivery
from tests.security_parts import NAUGHTY, calls, look, path_of, work_off
from tests.web_parts import Web, lite, web

__all__ = ["lite", "web"]

DATA = b"carrier,name\nAA,American\n"  # what Web.ready() uploads
DIGEST = hashlib.sha256(DATA).hexdigest()
TEMPLATES = {f"/api/control/<digest_or_name>/template.{ending}" for ending in ("csv", "xlsx")}
ON_KEY = "/api/tenants/<client>/<connection>/modules/system/imports/schemas"
SCHEMAS = {ON_KEY, f"{ON_KEY}/<schema>", f"{ON_KEY}/<schema>/generate/csv/download"}
TO_PREPARE = {
    "/api/control/<digest_or_name>",
    "/api/controls",
    "/api/controls/drift",
    "/api/entity/<table>/control",
    "/api/limits",
    *TEMPLATES,
    *SCHEMAS,
}
HANDLE = "0b6f3c1e-8d5a-4f7b-9c2d-1a2b3c4d5e6f"
BY_IMPORT = {"/api/file/<digest>", "/api/handle/<handle>", "/api/handles", *TO_PREPARE}  # what an import needs to look at
NOTHING = {"batch": "4711", "schema": "4711", "handle": HANDLE.replace("0", "1")}  # ids of the right form that are nobody's
BY_IMPORT_ALONE = {"/bulk/v1/bulkload/<integration_id>/upload_url"}
BY_ADMIN = {"/api/addresses", "/api/addresses/test"}
BY_CONTROL = {"/api/control", "/api/controls/try", "/api/haplo-data-import-batch/control", *TO_PREPARE}


def may(method: str, rule: str, permission: str) -> bool:
    """Tell whether a key with this one permission may make a call; what is more generous than this has to be put down here."""
    if permission == "admin":
        return True
    if rule in BY_ADMIN:
        return False
    if permission == "control":
        return rule in BY_CONTROL
    if rule == "/metrics":  # of everybody's batches
        return permission == "read:all"
    if method == "GET" and rule not in BY_IMPORT_ALONE:
        return permission in ("read", "read:all") or (permission == "import" and rule in BY_IMPORT)
    return permission == "import"


def ask(web: Web, method: str, path: str, key: str | None = "", **options: Any) -> TestResponse:
    """Make a call with this key: "" is the test's own, None is none."""
    headers = options.pop("headers", {}) | ({} if key is None else {"Authorization": f"apikey {key or web.key}"})
    return web.app.test_client().open(path, method=method, headers=headers, buffered=True, **options)


def values_for(web: Web) -> dict[str, str]:
    """Return what stands for the variables of the routes: things that are there, of the test's own key."""
    begun = ask(web, "POST", "/api/upload", headers={"Tus-Resumable": "1.0.0", "Upload-Length": "5"})
    batch = web.ready()
    webhook = ask(web, "POST", "/api/webhooks", data={"url": "https://example.org/hook"}).text.split()[0]
    told: dict[str, Any] = {"event": "batch.completed", "batch_id": int(batch), "run": 1, "body": "{}"}
    with writing(web.catalog) as connection:
        notices.add(connection, [NewDelivery(id=notices.id_of(webhook), kind=Kind.WEBHOOK, recipient=webhook, **told)])
    yaml = "entities:\n- entity: Airlines\n  input: [carrier]\n  mappings: [carrier: ]\n"
    path = ON_KEY.replace("<", "").replace(">", "")
    schema = ask(web, "POST", path, json={"properties": {"name": f"mine {batch}", "schema": yaml}})
    return {
        "batch": batch,
        "schema": schema.headers["OnKey-Resource-Id"],
        "client": "acme",
        "connection": "prd",
        "webhook": webhook,
        "delivery": notices.id_of(webhook),
        "digest": DIGEST,
        "digest_or_name": "airlines",
        "name": "airlines.csv",
        "upload": begun.text,
        "handle": ask(web, "PUT", f"/api/handle/{HANDLE}", data=b"x").text and HANDLE,
        "table": "airlines",
        "namespace": "an",
        "code": "app",
        "directory": "inbox",
        "integration_id": "airlines",
    }


@pytest.mark.parametrize("accept", ["*/*", "application/json"])
def test_nothing_without_a_key(lite: Web, accept: str) -> None:
    """Without a key, or with one that is unknown, wrong, expired or revoked, each route says the same 401 (ELMA365's 403) only (T87)."""
    values = values_for(lite)
    expired = lite.new_key("admin", expires_at=clock.now() - timedelta(seconds=1))
    revoked = lite.new_key("admin")
    keys.revoke(lite.catalog, revoked.split("_")[1])
    wrong = lite.key[:-4] + "AAAA"
    for method, rule in calls(lite.app):
        said = set()
        lite.app.extensions["lading"].redis.flushall()  # the throttle has a test of its own
        for key in (None, "lad_x_y", "lad_0_0", wrong, expired, revoked, "\u00e9", "x" * 5000):
            reply = ask(lite, method, path_of(rule, values), key, headers={"Accept": accept})
            look(reply, (method, rule))
            said.add((reply.status_code, reply.text.replace(reply.headers["X-Request-Id"], "")))
        assert [status for status, _ in said] == [403 if rule.endpoint.startswith("elma365.") else 401], (rule, said)


def test_each_permission_opens_what_it_should(lite: Web) -> None:
    """A key with one permission gets 403 from every route that this does not open, and from no other (T87)."""
    values = values_for(lite)
    for permission in keys.PERMISSIONS:
        key = lite.new_key(permission)
        for method, rule in calls(lite.app):
            reply = ask(lite, method, path_of(rule, values), key)
            look(reply, (method, rule, permission))
            assert (reply.status_code != 403) == may(method, rule.rule, permission), (method, rule, permission, reply.text)


def test_what_is_anothers_looks_like_nothing(web: Web) -> None:
    """Each route answers another key's batch or digest as it answers one that never was: no oracle, no IDOR (T58, T87)."""
    values, stranger = values_for(web), web.new_key("import", "read", "control", "approve")
    # Control files and tables are everybody's, and names are those of a batch's own files.
    shared = {"client", "connection", "digest_or_name", "integration_id", "name", "table", "namespace", "code", "directory"}
    nothing = {name: value if name in shared else NOTHING.get(name, "0" * len(value)) for name, value in values.items()}
    tus = {"Tus-Resumable": "1.0.0", "Upload-Offset": "0", "Content-Type": "application/offset+octet-stream"}
    asked = set()
    for method, rule in calls(web.app):
        if not rule.arguments - shared or method == "PUT":  # a PUT brings the bytes, so it asks for nothing
            continue
        asked |= rule.arguments
        for header in (
            [{}] if "upload" not in rule.arguments else [tus | {"X-HTTP-Method-Override": o} for o in ("HEAD", "PATCH", "DELETE")]
        ):
            theirs, none = (ask(web, method, path_of(rule, v), stranger, headers=header) for v in (values, nothing))
            look(theirs, rule)
            assert theirs.status_code == none.status_code == 404, (method, rule, theirs.text)
            said = theirs.text
            for name, value in nothing.items():
                said = said if name in shared else said.replace(values[name], value)
            assert said == none.text, (method, rule)
            assert set(theirs.headers.keys()) == set(none.headers.keys()), (method, rule)
    assert asked - shared == values.keys() - shared
    assert ask(web, "HEAD", f"/api/upload/{values['upload']}", headers=tus).status_code == 200
    for field, value in (("batch", values["batch"]), ("batch", "4711")):
        form = {"batch": values["batch"], "name": "more.csv", "digest": DIGEST} | {field: value}
        assert ask(web, "POST", "/api/file", stranger, data=form, content_type="multipart/form-data").status_code == 404
    mine = ask(web, "POST", "/api/batch", stranger, data={"control": "airlines"}).text
    for digest in (DIGEST, "0" * 64):
        form = {"batch": mine, "name": "more.csv", "digest": digest}
        reply = ask(web, "POST", "/api/file", stranger, data=form, content_type="multipart/form-data")
        assert (reply.status_code, reply.text) == (404, f"File not found: {digest}\n")


def allowed_fields(web: Web, method: str, path: str) -> list[str]:
    """Return the fields that a call takes, as its own refusal of an unknown one tells them."""
    accept = {"Accept": "application/json"}
    if method == "GET":
        reply = ask(web, method, f"{path}?zzz=1", headers=accept)
    elif path in ("/api/file", "/api/control"):
        reply = ask(web, method, path, headers=accept, data={"zzz": "1", "file": (BytesIO(DATA), "f")})
    else:
        reply = ask(web, method, path, headers=accept, data={"zzz": "1"})
    errors = (reply.get_json(silent=True) or {}).get("errors", []) if reply.status_code == 400 else []
    return [name for error in errors if error["path"] == "zzz" for name in error["allowed"]]


def test_naughty_values_everywhere(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever stands in a path, a field or a query, a refusal is the worst that comes of it; a NUL is 400 (T05, T58, T60, T81, T82)."""
    monkeypatch.setattr(routes.status, "min", lambda *_: 0, raising=False)  # waits for nothing
    values = values_for(web)
    web.post("/api/schedule", {"batch": values["batch"], "mode": "dry-run"})
    work_off(web)
    taken = 0
    for method, rule in calls(web.app):
        path = path_of(rule, values)
        for name in rule.arguments:
            for value in NAUGHTY:
                reply = ask(web, method, path_of(rule, values | {name: value}))
                look(reply, (method, rule, value))
                assert "\0" not in value or reply.status_code == 400, (method, rule, value)
        for name in allowed_fields(web, method, path):
            taken += 1
            for value in NAUGHTY:
                reply = _with_field(web, method, path, name, value)
                look(reply, (method, rule, name, value))
                assert "\0" not in value or reply.status_code == 400, (method, rule, name, value)
    assert taken > 25  # or the refusals no longer tell the fields


def _with_field(web: Web, method: str, path: str, name: str, value: str) -> TestResponse:
    fields = {"control": "airlines"} if path == "/api/batch" else {"batch": "1", "name": "airlines.csv"} if path == "/api/file" else {}
    if method == "GET":
        return ask(web, method, path, query_string={name: value.encode(errors="replace").decode()})
    if path in ("/api/file", "/api/control"):
        text = value.encode(errors="replace").decode()
        return ask(web, method, path, data={**fields, name: text, "file": (BytesIO(DATA), text)})
    return ask(web, method, path, data=json.dumps({**fields, name: value}), content_type="application/json")


def test_naughty_headers_everywhere(lite: Web) -> None:
    """Headers of any value give no failure of ours, and nothing of them comes back as a header (T05, T80)."""
    values = values_for(lite)
    names = ("Range", "If-None-Match", "If-Range", "If-Modified-Since", "Accept", "Idempotency-Key", "Content-Digest", "Repr-Digest",
             "X-Request-Id", "Content-Type", "Host", "Content-Encoding", "Content-Range", "Prefer",
             "Tus-Resumable", "Upload-Length", "Upload-Offset", "Upload-Metadata", "Upload-Checksum", "X-HTTP-Method-Override")  # fmt: skip
    for method, rule in calls(lite.app):
        for name in names:
            for value in ("\u00e9", "x" * 3000, "bytes=-0,5-2", "bytes=99999999999999999999-", "*/*;q=x", ",;=", "sha-256=:x:", '"', "{}"):
                headers = {"Tus-Resumable": "1.0.0", "Upload-Length": "5", "Upload-Offset": "0"} if "upload" in rule.rule else {}
                look(ask(lite, method, path_of(rule, values), headers=headers | {name: value}), (method, rule, name, value))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_random_requests(lite: Web, data: st.DataObject) -> None:
    """Requests made up at random, each near enough to a right one to get in, give no 500 (T81, T82)."""
    text = st.one_of(st.text(max_size=20), st.sampled_from(NAUGHTY), st.integers().map(str))
    method, rule = data.draw(st.sampled_from(list(calls(lite.app))))
    path = path_of(rule, {name: data.draw(text | st.sampled_from(["airlines", "1", DIGEST])) for name in rule.arguments})
    names = st.sampled_from(["batch", "control", "name", "file", "digest", "mode", "at", "comment", "run", "limit", "cursor", "since", "x"])
    fields = data.draw(st.dictionaries(names, st.recursive(st.none() | st.booleans() | st.floats() | text, st.lists, max_leaves=3)))
    kind = data.draw(st.sampled_from(["json", "form", "multipart", "query", "bytes"]))
    texts = {name: str(value).encode(errors="replace").decode() for name, value in fields.items()}
    kinds: dict[str, dict[str, Any]] = {
        "json": {"data": json.dumps(fields), "content_type": "application/json"},
        "form": {"data": texts},
        "multipart": {"data": {**texts, "file": (BytesIO(b"x"), "x")}, "content_type": "multipart/form-data"},
        "query": {"query_string": texts},
        "bytes": {"data": data.draw(st.binary(max_size=50)), "content_type": "multipart/form-data; boundary=x"},
    }
    options = kinds[kind]
    reply = ask(lite, method, path, **options)
    look(reply, (method, path, options))
