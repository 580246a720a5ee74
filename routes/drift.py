"""How the control files in use stand to the target as it is: do they still compile, and what has changed in their tables."""

from __future__ import annotations

from typing import Any

from flask import Blueprint
from flask.typing import ResponseReturnValue

from catalog import shapes
from engine.control.drift import MOST, Standing, shape_of, standings
from routes import parts, replies
from routes.auth import requires
from routes.control import compiled, is_named_for_caller, usable_control
from routes.described import Reply, described
from routes.fields import refuse_query
from schemas.drift import ControlStanding, DriftReply

routes = Blueprint("drift", __name__, url_prefix="/api")


@routes.get("/controls/drift")
@requires("read", "import", "control")
@described(replies={200: Reply(DriftReply)})
def list_drift() -> ResponseReturnValue:
    """Tell of each named control file whether it still fits the target, and what has changed in its tables since it was checked."""
    refuse_query()
    found, is_whole = looked_at()
    if replies.wants_json():
        return replies.json({"controls": [_told(one) for one in found], "is_whole": is_whole})
    return replies.text("".join(f"{one.name}\t{word_of(one)}\t{'; '.join(map(str, (*one.faults, *one.changes)))}\n" for one in found))


def looked_at() -> tuple[list[Standing], bool]:
    """Look at the control files that the caller's key may use, for some seconds at most; say whether these were all."""
    seen = shapes.seen(parts().catalog, MOST + 1)
    usable = [one for one in seen[:MOST] if is_named_for_caller(one.name)]
    found, is_whole = standings(usable, text_of, parts().compile, parts().tables())
    return found, is_whole and len(seen) <= MOST


def take_as_it_is(digest: str) -> None:
    """Check a control file against the target anew, and from now on tell what changes after this."""
    control = usable_control(digest)
    shapes.note(parts().catalog, control.digest, shape_of(compiled(text_of(control.digest))))


def text_of(digest: str) -> bytes:
    """Return the bytes of a stored control file."""
    with parts().spool.open(digest) as stored:
        return stored.read()


def word_of(standing: Standing) -> str:
    """Return in a word how a control file stands."""
    return "broken" if standing.faults else "changed" if standing.changes else "ok"


def _told(standing: Standing) -> dict[str, Any]:
    told: dict[str, Any] = ControlStanding().dump(standing)
    return told | {"state": word_of(standing)}
