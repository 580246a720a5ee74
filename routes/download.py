"""Stored bytes as replies: whole or by Range, with their digest as ETag, and under a name that no header can be broken with."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import quote

from flask import Response, request
from werkzeug.wsgi import wrap_file

from errors import DigestUnknown
from spool import Spool

_BLOCK_BYTES = 256 * 1024
_MAX_NAME = 255
# Controls, ends of lines, and what turns the direction of writing, as a set of a regular expression has it; and halves of characters.
MOVES_OR_HIDES = r"\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069"
_MOVES_OR_HIDES = re.compile(rf"[{MOVES_OR_HIDES}\ud800-\udfff]")


def blob(spool: Spool, digest: str, content_type: str, name: str) -> Response:
    """Reply with a stored blob: Range, If-Range and If-None-Match are honoured. Raises DigestUnknown."""
    size = spool.size(digest)
    if size is None:
        raise DigestUnknown(f"the spool holds nothing under {digest}")
    if request.range and len(request.range.ranges) > 1:
        # Several ranges at once would need a multipart reply; without the header the whole is sent, as RFC 9110 allows.
        request.environ.pop("HTTP_RANGE")
    file = spool.open(digest)
    try:
        reply = Response(wrap_file(request.environ, file, _BLOCK_BYTES), content_type=content_type, direct_passthrough=True)
        reply.content_length = size
        reply.set_etag(digest)
        name_it(reply, name)
        reply.make_conditional(request.environ, accept_ranges=True, complete_length=size)
    except BaseException:
        file.close()
        raise
    return reply


def name_it(reply: Response, name: str) -> None:
    """Have a browser save the reply under this name, and never show it as a page of ours."""
    reply.headers["Content-Disposition"] = disposition(name)
    reply.headers["X-Content-Type-Options"] = "nosniff"


def disposition(name: str) -> str:
    """Return a Content-Disposition for a name that anybody may have chosen (RFC 6266).

    >>> disposition('../a"b.csv')
    "attachment; filename=a_b.csv; filename*=UTF-8''a%22b.csv"
    """
    shown = PurePosixPath(display_name(name).replace("\\", "/")).name or "file"
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in shown).lstrip(".-") or "file"
    return f"attachment; filename={plain}; filename*=UTF-8''{quote(shown, safe='')}"


def display_name(name: str) -> str:
    """Return a name as it may be shown: without what moves or hides text, and not longer than a file's name may be.

    >>> display_name("gpj." + chr(0x202E) + "exe" + chr(7))
    'gpj.exe'
    """
    return _MOVES_OR_HIDES.sub("", name)[:_MAX_NAME]


def moves_or_hides(text: str) -> bool:
    """Tell whether a text has a control, half a character, or what turns the direction of writing."""
    return _MOVES_OR_HIDES.search(text) is not None
