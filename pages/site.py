"""All pages as one blueprint: what they have in common, and how they say that something cannot be done."""

from __future__ import annotations

from functools import partial

from flask import Blueprint, Response, g, send_from_directory
from flask.typing import ResponseReturnValue

from errors import Refusal
from pages import by_hand, controls, files, imports, keys, log, looks, notices, one, people, session, sign_in, system
from pages.looks import page
from routes import replies

site = Blueprint("pages", __name__)
for part in (sign_in, people, imports, one, log, by_hand, controls, files, keys, notices, system):
    site.register_blueprint(part.routes)

_YEAR_SECONDS = 365 * 24 * 3600
site.before_request(session.refuse_foreign_forms)
site.after_request(session.keep_form_secret)


@site.after_request
def _set_headers(reply: Response) -> Response:
    if reply.mimetype == "text/html":
        reply.headers["Content-Security-Policy"] = looks.CSP
    return reply


@site.get("/static/<path:name>")
def static_file(name: str) -> ResponseReturnValue:
    """Give a file that pages are made of; its address names its content, so it may be kept."""
    reply = send_from_directory(looks.STATIC, name, max_age=_YEAR_SECONDS)
    reply.headers["Cache-Control"] = f"public, max-age={_YEAR_SECONDS}, immutable"
    return reply


def _say_why(refusal: Refusal) -> Response:
    reply = page("refused.html", refusal.status, refusal=refusal, title=replies.title_of(refusal.status), request_id=g.request_id)
    reply.headers.update(refusal.headers)
    return reply


site.register_error_handler(Exception, partial(replies.answer_error, refuse=_say_why))
