"""The API's description, for programs and for people. The page has no script, and asks for nothing but its own style."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from flask import Blueprint, Response, current_app, render_template
from flask.typing import ResponseReturnValue
from markupsafe import Markup, escape

from routes import openapi, parts, replies
from routes.described import Reply, described

routes = Blueprint("api_docs", __name__, url_prefix="/api", template_folder="docs")

VERSION = "0.1.0"
_STYLE = Path(__file__).parent / "docs" / "api.css"
_POLICY = "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_KEPT = "openapi"  # the document, once it was asked for


@routes.get("/openapi.json")
@described(replies={200: Reply(types=("application/json",))})
def get_document() -> ResponseReturnValue:
    """Describe the API as OpenAPI 3.1 has it."""
    return replies.json(_document())


@routes.get("/docs")
@described(replies={200: Reply(types=("text/html",))})
def get_page() -> ResponseReturnValue:
    """Show the API's description as a page."""
    reply = Response(render_template("api_docs.html", document=_document()), content_type="text/html; charset=utf-8")
    reply.headers["Content-Security-Policy"] = _POLICY
    return reply


@routes.get("/docs/api.css")
@described(replies={200: Reply(types=("text/css",))})
def get_style() -> ResponseReturnValue:
    """Give the page's style."""
    return Response(_STYLE.read_bytes(), content_type="text/css; charset=utf-8")


@routes.app_template_filter("ticked")
def ticked(text: str | None) -> Markup:
    """Return a text as HTML, what stands between backticks as code.

    >>> ticked("`<b>` & more")
    Markup('<code>&lt;b&gt;</code> &amp; more')
    """
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(text or ""))))  # noqa: S704 - it was escaped before


def _document() -> dict[str, Any]:
    kept = current_app.extensions
    if _KEPT not in kept:
        kept[_KEPT] = openapi.document(current_app, VERSION, parts().settings.public_url or "/")
    found: dict[str, Any] = kept[_KEPT]
    return found
