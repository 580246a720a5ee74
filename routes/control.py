"""Step 1: control files, and the names that point to them."""

import hashlib
from collections.abc import Iterable
from functools import partial
from typing import cast

from flask import Blueprint, Response, request
from flask.typing import ResponseReturnValue
from marshmallow import Schema

from catalog import controls, shapes
from catalog.controls import Control
from engine.control.drift import shape_of
from engine.plan import Plan
from errors import ControlFileInvalid, Problem, Refusal
from routes import parts, replies
from routes.auth import caller, requires
from routes.described import Reply, described
from routes.fields import refuse_query
from routes.idempotency import once
from routes.limits import refuse_plan
from routes.upload import receive_form
from schemas.control import CONTROL_FILE_NAME_RULE, control_file_name_is_good
from schemas.replies import ControlsReply, ControlStored
from schemas.requests import ControlRequest, check
from spool import Spool

routes = Blueprint("control", __name__, url_prefix="/api")

_FORM_BYTES = 64 * 1024  # what a form may have besides its file


@routes.post("/control")
@requires("control", "import")
@described(
    form=ControlRequest, has_file=True, headers=("Idempotency-Key", "Content-Digest", "Repr-Digest"), refuses=(507,),
    replies={200: Reply(ControlStored)},
)  # fmt: skip
def upload_control() -> ResponseReturnValue:
    """Check and store a control file, move its names to it, and reply with its digest."""
    refuse_query()
    return take_control(ControlRequest())


def take_control(schema: Schema) -> ResponseReturnValue:
    """Do so with a form whose text fields (comment, name) are of this shape."""
    if caller().control_names is not None:
        raise Refusal(403, "key_limited", "This key is limited to some control files, so it may not upload others.")
    memory = InMemory()
    with receive_form(request, cast(Spool, memory), parts().settings.max_control_bytes + _FORM_BYTES) as upload:
        if upload.receiver is None:
            raise Refusal(
                400, "request_invalid", "A control file is needed.", [Problem("Missing: send it as -F file=@control.yaml.", "file")]
            )
        upload.check()
        fields = check(schema, upload.fields)
    told_apart = [memory.digest, *(text for pair in sorted(upload.fields.items()) for text in pair)]
    return once(told_apart, lambda: _store(bytes(memory.data), fields["comment"], fields["name"]))


def _store(data: bytes, comment: str, name: str | None) -> Response:
    digest, names = store_control(data, comment, name)
    return replies.bare(digest, {"digest": digest, "names": names})


def store_control(data: bytes, comment: str, name: str | None) -> tuple[str, list[str]]:
    """Check and store a control file, move its names to it, and return its digest and names; Refusal 400 with all its faults."""
    if name is not None and not control_file_name_is_good(name):
        raise Refusal(400, "request_invalid", "The control file cannot have this name.", [Problem(CONTROL_FILE_NAME_RULE, "name")])
    plan = compiled(data)
    refuse_plan(caller(), plan)
    digest = hashlib.sha256(data).hexdigest()
    names = sorted({n for n in (name, plan.name) if n is not None})
    _refuse_moves(names, digest)
    with parts().spool.receive() as receiver:
        receiver.write(data)
        receiver.commit(digest)
    add = partial(controls.add, parts().catalog, digest, key_id=caller().id, tables=plan.tables, comment=comment)
    add()
    shapes.note(parts().catalog, digest, shape_of(plan))
    for each in names:
        add(name=each)
    return digest, names


def _refuse_moves(names: Iterable[str], digest: str) -> None:
    """Refuse that a limited key has a name of another key mean another control file: keys that may do more import by that name."""
    moved = [name for name in names if caller().is_limited and controls.is_anothers(parts().catalog, name, digest, caller().id)]
    if moved:
        said = "This key is limited in what it may import, so it may move no name that another key has given."
        raise Refusal(403, "key_limited", said, [Problem(f"{name} is another control file's name.", "name") for name in moved])


def kept_control(data: bytes) -> Control:
    """Return the control file of these bytes, which we have made ourselves; it is stored when it is first needed."""
    digest = hashlib.sha256(data).hexdigest()
    if (known := controls.get(parts().catalog, digest)) is None:
        _store(data, "", None)
        known = controls.get(parts().catalog, digest)
    assert known is not None  # noqa: S101 - control files are never deleted
    return known


def compiled(data: bytes) -> Plan:
    """Compile a control file; Refusal 400 with all its faults."""
    try:
        return parts().compile(data)
    except ControlFileInvalid as faults:
        raise Refusal(400, "control_file_invalid", "The control file has faults.", faults.problems) from None


@routes.get("/control/<digest_or_name>")
@requires("read", "import", "control")
@described(refuses=(410,), replies={200: Reply(says=("ETag",))})
def get_control(digest_or_name: str) -> ResponseReturnValue:
    """Reply with a control file, byte for byte as it was uploaded."""
    control = usable_control(digest_or_name)
    with parts().spool.open(control.digest) as stored:
        reply = replies.text("")
        reply.set_data(stored.read())
    reply.set_etag(control.digest)
    return reply.make_conditional(request)


@routes.get("/controls")
@requires("read", "import", "control")
@described(replies={200: Reply(ControlsReply)})
def list_controls() -> ResponseReturnValue:
    """List the names of control files as lines of name, digest and when the name was last moved; as JSON, every upload's comment too."""
    named = [n for n in controls.names(parts().catalog) if is_named_for_caller(n.name)]
    if replies.wants_json():
        listed = [{"name": n.name, "digest": n.digest, "moved_at": n.moved_at} for n in named]
        return replies.json({"controls": listed, "uploads": _uploads({n.digest for n in named})})
    return replies.text("".join(f"{n.name}\t{n.digest}\t{n.moved_at:%Y-%m-%dT%H:%M:%SZ}\n" for n in named))


def _uploads(named: set[str]) -> list[dict[str, object]]:
    """Return the uploaded control files with their comments, newest first; to a limited key only those that its names point to."""
    entries = controls.entries(parts().catalog)
    seen = entries if caller().control_names is None else [e for e in entries if e.digest in named]
    return [{"digest": e.digest, "comment": e.comment, "created_at": e.created_at} for e in seen]


def usable_control(digest_or_name: str) -> Control:
    """Return the control file of this digest or name; 404 where there is none, or the caller's key is limited to others."""
    control = controls.resolve(parts().catalog, digest_or_name)
    if control is None or not controls.is_allowed(control, caller()):
        raise Refusal(404, "control_unknown", f"Control file not found: {digest_or_name[:200]}")
    return control


def is_named_for_caller(name: str) -> bool:
    """Tell whether the caller's key may use this name."""
    limited = caller().control_names
    return limited is None or name in limited


class InMemory:
    """Stands in for the spool while a form is read: a control file is small, and is stored only once it has proved right."""

    def __init__(self) -> None:
        self.data = bytearray()

    def receive(self, _max_bytes: int | None = None) -> "InMemory":
        """Take the form's one file."""
        return self

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take some bytes."""
        self.data += data
        return len(data)

    def discard(self) -> None:
        """Do nothing: memory frees itself."""

    @property
    def digest(self) -> str:
        """Return the digest of what came."""
        return hashlib.sha256(self.data).hexdigest()
