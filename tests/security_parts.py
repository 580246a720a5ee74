"""What the tests of security share: what no reply may hold, values that break things, and a worker that runs in the test itself."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from io import BytesIO
from typing import Any
from urllib.parse import quote

from flask import Flask
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from engine.target import open_target
from jobs.run_batch import Drain
from tests.web_parts import Web

# Paths, addresses of servers, SQL and Python's own words; none of them is any caller's business.
LEAKS = re.compile(
    r"/tmp/|/usr/|/var/|\.py\b|site-packages|Traceback|File \"|postgres(ql)?://|redis://|sqlite:|127\.0\.0\.1|\blad_[0-9a-f]{10}_"
    r"|\b(SELECT|INSERT INTO|UPDATE|DELETE FROM|COPY)\b [a-z_\"*]|psycopg|sqlalchemy|werkzeug|marshmallow|sqlite3|object at 0x"
)
PUBLIC = {"/healthz", "/readyz", "/api/openapi.json", "/api/docs", "/api/docs/api.css"}
PUBLIC |= {"/bulk/v1/upload"}  # its address is its key; it has tests of its own
SAFE_HEADERS = ("X-Request-Id", "X-Content-Type-Options", "Content-Security-Policy", "Referrer-Policy", "Cache-Control")
NAUGHTY = (
    "", " ", "\0", "a\0b", "a\r\nSet-Cookie: x=1", "\U0001f600", "x" * 4096, "../../etc/passwd", "-rf", "CON", "\u202egpj.exe",
    "{}", "{0.x}", "%s%n",
    "<script>alert(1)</script>", "' OR 1=1 --", '"; DROP TABLE airlines; --', "=cmd|' /C calc'!A0", "\ud800", "NaN", "inf", "-1",
    "9" * 400, "9" * 5000, "1e999", "9007199254740993", "99999999999999999999", "\uff11\uff12", "true", "null", "\x7f\x1b[31m", "lad_x_y",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30T00:00:00Z",
)  # fmt: skip


def look(reply: TestResponse, what: object) -> None:
    """Hold what is promised of every reply: no failure of ours, safe headers, and nothing that tells how we are made."""
    assert reply.status_code < 500, (what, reply.text)
    assert all(reply.headers.get(name) for name in SAFE_HEADERS), what
    assert not any("\n" in value or "\r" in value for value in reply.headers.values()), what
    assert reply.mimetype != "text/html", what
    found = LEAKS.search(reply.get_data(as_text=True))
    assert not found, (what, found, reply.text[:500])


def calls(app: Flask) -> Iterator[tuple[str, Rule]]:
    """Yield every method and route of the application that needs a key; one that is added joins by itself.

    HEAD is asked where a route has it of its own, without GET. OPTIONS tells what everybody may know.
    """
    for rule in app.url_map.iter_rules():
        # Pages are for sessions, not for keys: tests/test_pages_sign_in.py goes through them.
        if rule.rule in PUBLIC or rule.endpoint.startswith("pages."):
            continue
        methods = rule.methods or set()
        for method in sorted(methods - {"OPTIONS"} - ({"HEAD"} if "GET" in methods else set())):
            yield method, rule


def path_of(rule: Rule, values: dict[str, str]) -> str:
    """Return the path of a route with these values for its variables; a KeyError asks for the value of a new one."""
    path = rule.rule
    for name in rule.arguments:
        path = re.sub(rf"<(\w+:)?{name}>", quote(values[name].encode(errors="surrogatepass"), safe="").replace("\\", "%5C"), path)
    return path


def work_off(web: Web) -> None:
    """Carry out whatever waits, as a worker does."""
    target = open_target(web.settings.target_url)
    target.create_ledger()
    target.close()
    with Drain(web.settings, "a test", os.getppid()) as drain:
        while drain._next():
            pass


def imported(web: Web, data: bytes, name: str, control: bytes, key: str | None = None) -> str:
    """Take a file through the whole road and return its batch."""
    reply = web.post("/api/control", {"file": (BytesIO(control), "c.yaml")})
    assert reply.status_code == 200, reply.text
    batch = web.post("/api/batch", {"control": reply.text}, key=key).text
    digest = hashlib.sha256(data).hexdigest()
    # Sent raw: of a large form the test client makes a temporary file, which it never closes.
    headers = {"Authorization": f"apikey {key or web.key}"}
    assert web.app.test_client().put(f"/api/file/{digest}", data=data, headers=headers).text == digest
    form = {"batch": batch, "name": name, "digest": digest}
    reply = web.post("/api/file", form, key=key, content_type="multipart/form-data")
    assert reply.status_code == 200, reply.text
    reply = web.post("/api/schedule", {"batch": batch}, key=key)
    assert reply.status_code == 200, reply.text
    work_off(web)
    return batch


def got(web: Web, path: str, **options: Any) -> TestResponse:
    """GET a path and read the reply to its end, so that what it comes from is closed."""
    return web.get(path, buffered=True, **options)
