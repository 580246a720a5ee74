"""Helpers for tests of the pages without a browser: somebody who is signed in, and what every page must hold."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from typing import Any

import html5lib
from flask import Flask
from werkzeug.routing import Rule
from werkzeug.test import TestResponse

from tests.web_parts import Web

OPEN = {"/sign-in", "/sign-in/oidc", "/sign-in/oidc/back", "/static/<path:name>"}


class Person:
    """Somebody at a browser; each has cookies of their own."""

    def __init__(self, web: Web, key: str | None = None, **options: Any) -> None:
        self.client = web.app.test_client()
        self.options = options  # of every request, such as its base_url
        if key is not None:
            reply = self.sign_in(key)
            assert reply.status_code == 303, reply.text

    def sign_in(self, key: str, **fields: str) -> TestResponse:
        """Fill in the sign-in form."""
        self.get("/sign-in")
        return self.post("/sign-in", {"key": key, **fields})

    def get(self, path: str, **options: Any) -> TestResponse:
        """Open a page; whatever it shows must be HTML without a fault."""
        reply = self.client.get(path, buffered=True, **self.options, **options)
        if reply.mimetype == "text/html" and reply.text.startswith("<!doctype"):
            html5lib.HTMLParser(strict=True).parse(reply.text)
        return reply

    def token(self) -> str:
        """Return what a form of a page of ours holds."""
        found = re.search(r'name="form_token" value="([0-9a-f]{64})"', self.get("/sign-in").text)
        assert found
        return found[1]

    def post(self, path: str, data: dict[str, Any] | None = None, **options: Any) -> TestResponse:
        """Send a form as the page would."""
        return self.client.post(path, data={"form_token": self.token(), **(data or {})}, buffered=True, **self.options, **options)


def words(reply: TestResponse) -> str:
    """Return the text of a page, without its tags."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", reply.text)).split())


def page_calls(app: Flask) -> Iterator[tuple[str, Rule]]:
    """Yield every method and address of the pages that is for people who are signed in."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint.startswith("pages.") and rule.rule not in OPEN:
            for method in sorted((rule.methods or set()) - {"OPTIONS", "HEAD"}):
                yield method, rule
