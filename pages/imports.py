"""Recent imports: which batches there are, newest first, live while something runs."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, request, url_for
from flask.typing import ResponseReturnValue
from marshmallow import fields as kinds, validate

from catalog import controls, keys, listing
from catalog.batches import State
from catalog.listing import Filters
from pages import forms
from pages.looks import page
from pages.session import signed_in
from routes import parts
from routes.auth import caller
from routes.batches import cursor_of, place_of
from routes.control import is_named_for_caller, usable_control
from schemas.requests import CURSOR, STATES, Request, Text

routes = Blueprint("imports", __name__)

_ROWS = 25
_MOVING = (State.SCHEDULED, State.RUNNING)


class RecentQuery(Request):
    """Which imports are wanted; an empty field does not matter."""

    q = Text(load_default=None, validate=validate.Length(max=200))
    state = kinds.String(load_default=None, validate=validate.OneOf(STATES))
    control = Text(load_default=None, validate=validate.Length(max=200))
    key = Text(load_default=None, validate=validate.Length(max=40))
    origin = Text(load_default=None, validate=validate.Length(max=40))
    cursor = Text(load_default=None, validate=validate.Regexp(CURSOR, error="No place of this list."))


@routes.get("/")
@signed_in("read")
def recent() -> ResponseReturnValue:
    """Show the newest imports, with what narrows them down."""
    query = forms.of_query(RecentQuery())
    named = [name.name for name in controls.names(parts().catalog) if is_named_for_caller(name.name)]
    makers = keys.all_keys(parts().catalog) if caller().can("read:all") else []
    return page("imports.html", named=named, makers=makers, states=STATES, query=query, **_listed(query))


@routes.get("/imports/rows")
@signed_in("read", is_poll=True)
def rows() -> ResponseReturnValue:
    """Give the list alone, for a page that is open."""
    return page("imports_rows.html", **_listed(forms.of_query(RecentQuery())))


def _listed(query: dict[str, Any]) -> dict[str, Any]:
    """Return a page of the list: its batches, what they refer to, and where the next page is."""
    control = usable_control(query["control"]).digest if query["control"] else None
    state = State(query["state"]) if query["state"] else None
    filters = Filters(state, control, query["origin"], key_id=query["key"], text=query["q"])
    found = listing.newest(parts().catalog, caller(), filters, after=place_of(query["cursor"]), limit=_ROWS + 1)
    shown, given = found[:_ROWS], {name: value for name, value in query.items() if value}
    older = urlencode(given | {"cursor": cursor_of(shown[-1])}) if len(found) > _ROWS else None
    return {
        "batches": shown,
        "labels": listing.labels(parts().catalog, shown),
        "moving": sum(batch.state in _MOVING for batch in shown),
        "is_narrowed": bool(given),
        "itself": f"{url_for('pages.imports.rows')}?{urlencode(given)}",
        "following": older and f"{url_for('pages.imports.recent')}?{older}",
        "is_first": not query["cursor"],
        "address": request.host_url.rstrip("/"),
    }
