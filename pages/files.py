"""Files: looked up by digest or name, where they are used, and until when they are kept."""

from __future__ import annotations

from datetime import timedelta

from flask import Blueprint
from flask.typing import ResponseReturnValue
from marshmallow import validate

from catalog import files as stored, listing
from catalog.listing import Filters
from pages import forms
from pages.looks import page
from pages.session import signed_in
from routes import file, parts
from routes.auth import caller
from schemas.requests import Request, Text

routes = Blueprint("files", __name__, url_prefix="/files")

_MOST = 50


class FilesQuery(Request):
    """What is sought: the beginning of a digest, or a part of a name."""

    q = Text(load_default="", validate=validate.Length(max=255))


@routes.get("")
@signed_in("read")
def index() -> ResponseReturnValue:
    """List the files that were uploaded last, or those that are sought."""
    sought = forms.of_query(FilesQuery())["q"]
    return page("files.html", sought=sought, found=stored.newest(parts().catalog, caller(), sought, _MOST), keep=_kept_for())


def _kept_for() -> timedelta:
    return timedelta(days=parts().settings.keep_files_days)


@routes.get("/<digest>")
@signed_in("read")
def show(digest: str) -> ResponseReturnValue:
    """Show what is known of a file, and the imports that use it."""
    found = file.visible_file(digest)
    used = listing.newest(parts().catalog, caller(), Filters(file=found.digest), limit=_MOST)
    return page("file.html", file=found, used=used, keep=_kept_for())


@routes.get("/<digest>/content")
@signed_in("read")
def content(digest: str) -> ResponseReturnValue:
    """Give the file itself."""
    return file.get_content(digest)
