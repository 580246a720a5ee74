"""How pages look: templates, the filters that they use, and the headers that keep scripts of others out."""

from __future__ import annotations

import hashlib
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from flask import Response, g, request, url_for
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from catalog.states import Counts
from pages.session import form_token
from routes.download import display_name, moves_or_hides

# Scripts and styles come from files of ours alone; Pico draws its arrows by addresses that hold a picture.
CSP = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)  # fmt: skip
STATIC = Path(__file__).parent / "static"
OUTCOMES = ("created", "updated", "deleted", "skipped", "errors", "unprocessed")
WORDS = {"skipped": "unchanged", "errors": "refused", "unprocessed": "not processed"}


def page(template: str, status: int = 200, **context: Any) -> Response:
    """Reply with a page made from this template; it may use these names, and what all may."""
    made = _TEMPLATES.get_template(template).render(key=g.get("key"), **context)
    return Response(made, status, content_type="text/html; charset=utf-8")


def static(name: str) -> str:
    """Return the address of a file of ours, which changes when the file does, so that browsers may keep it for good."""
    return url_for("pages.static_file", name=name, v=_version(name))


@lru_cache(maxsize=64)
def _version(name: str) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]


def when(instant: datetime | None) -> str:
    """Return an instant as people read it, in UTC."""
    return "" if instant is None else f"{instant:%Y-%m-%d %H:%M}"


def duration(seconds: float | None) -> str:
    """Return a time span in the two largest units that say something.

    >>> duration(0.0423), duration(75.2), duration(7260)
    ('0.04 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def size(count: int | None) -> str:
    """Return a number of bytes as people read it.

    >>> size(512), size(1536), size(5 * 2**30)
    ('512 B', '1.5 KiB', '5.0 GiB')
    """
    value = float(count or 0)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def plain(text: str) -> str:
    """Return a text of any length without what moves or hides text; its lines and tabs stay.

    >>> plain("two" + chr(10) + "lines" + chr(0x202E) + chr(7))
    'two\\nlines'
    """
    return "".join(c for c in text if c in "\n\t" or not moves_or_hides(c))


def number(value: float | None) -> str:
    """Return a whole number with its thousands apart.

    >>> number(1234567)
    '1,234,567'
    """
    return "" if value is None else f"{value:,.0f}"


def bar(counts: Counts) -> list[tuple[str, float, float]]:
    """Return the outcomes of a run as pieces of a bar of 100: (outcome, where it begins, how wide it is); none is too thin to be seen.

    >>> bar(Counts(input=1000, created=999, errors=1))
    [('created', 0, 98.04), ('errors', 98.04, 1.96)]
    """
    there = [(name, getattr(counts, name)) for name in OUTCOMES if getattr(counts, name)]
    weights = [max(count / sum(c for _, c in there), 0.02) for _, count in there]
    pieces, begin = [], 0.0
    for (name, _), weight in zip(there, weights, strict=True):
        width = weight / sum(weights) * 100
        pieces.append((name, round(begin, 2) or 0, round(width, 2)))
        begin += width
    return pieces


# An environment of our own: a name that a template gets wrong is an error, and whatever is shown is text unless a template says otherwise.
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.globals |= {"url_for": url_for, "form_token": form_token, "static": static, "bar": bar, "outcomes": OUTCOMES, "words": WORDS}
MENU = (  # what it leads to, what it says, and which permission it needs
    ("pages.imports.recent", "Imports", "read"),
    ("pages.by_hand.choose", "Import a file", "import"),
    ("pages.controls.index", "Control files", "read"),
    ("pages.files.index", "Files", "read"),
    ("pages.keys.index", "Keys", "admin"),
    ("pages.notices.index", "Notices", "admin"),
    ("pages.system.show", "System", "admin"),
)
_TEMPLATES.globals |= {"menu": MENU, "here": lambda: request.endpoint}
_TEMPLATES.filters |= {"when": when, "duration": duration, "size": size, "number": number, "shown": display_name, "plain": plain}
