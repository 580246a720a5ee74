"""A control file tried on a sample: what each record would become. Nothing is stored, and nothing is written to the target."""

from __future__ import annotations

import re
from typing import Any, cast

from flask import Blueprint, request
from flask.typing import ResponseReturnValue

from catalog import controls
from catalog.controls import Control
from errors import Problem, Refusal
from routes import parts, replies
from routes.auth import caller, requires
from routes.control import InMemory, compiled, usable_control
from routes.described import Reply, described
from routes.fields import refuse_query
from routes.limits import refuse_plan
from routes.upload import receive_form
from schemas.requests import check
from schemas.trial import TrialReply, TrialRequest
from spool import Spool

routes = Blueprint("trial", __name__, url_prefix="/api")

SAMPLE_BYTES = 1024 * 1024
_MOST_NAMED = 5  # other control files that a sample's `!Name` rows may use
_NAMED_ROW = re.compile(rb"^!([^,;\t\r\n]{1,200})", re.MULTILINE)


@routes.post("/controls/try")
@requires("control", "import")
@described(form=TrialRequest, has_file=True, refuses=(404, 410, 422), replies={200: Reply(TrialReply)})
def try_control() -> ResponseReturnValue:
    """Tell what the records of a sample would become with a control file. Nothing is stored or written."""
    refuse_query()
    found = tried()
    return replies.json(found) if replies.wants_json() else replies.text("".join(f"{record['text']}\n" for record in found["records"]))


def tried() -> dict[str, Any]:
    """Do so with the form of this request; return the fields of TrialReply."""
    memory = InMemory()
    with receive_form(request, cast(Spool, memory), SAMPLE_BYTES + parts().settings.max_control_bytes) as upload:
        fields = check(TrialRequest(), upload.fields)
    # A browser sends an empty file where none was chosen.
    sample = bytes(memory.data) or fields["sample"].encode(errors="replace")
    if len(sample) > SAMPLE_BYTES:
        raise Refusal(413, "too_large", f"The sample is larger than the limit of {SAMPLE_BYTES} bytes.")
    text = _control_text(fields)
    named = _named_in(sample)
    if caller().is_limited:
        for each in (text, *named.values()):
            refuse_plan(caller(), compiled(each.encode(errors="replace")))
    # Only who may import learns, as by a dry run, what is in the target's tables.
    return parts().try_sample(
        sample, control=text, name=fields["name"], sent_as=upload.file_name, looks_up=caller().can("import"), named=named
    )


def _control_text(fields: dict[str, Any]) -> str:
    if (fields["text"] is None) == (fields["control"] is None):
        raise Refusal(400, "request_invalid", "One control file is needed.", [Problem("Send either text or control.", "control")])
    if fields["control"] is not None:
        return _text_of(usable_control(fields["control"]))
    if caller().control_names is not None:
        raise Refusal(403, "key_limited", "This key is limited to some control files, so it may not try others.")
    text: str = fields["text"]
    return text


def _text_of(control: Control) -> str:
    with parts().spool.open(control.digest) as stored:
        return stored.read().decode("utf-8", "replace")


def _named_in(sample: bytes) -> dict[str, str]:
    """Return, by name, the control files that the sample's `!Name` rows mean."""
    names = list(dict.fromkeys(found.decode("utf-8", "replace").strip() for found in _NAMED_ROW.findall(sample)))[:_MOST_NAMED]
    found = {name: controls.resolve(parts().catalog, name) for name in names}
    return {name: _text_of(one) for name, one in found.items() if one is not None and controls.is_allowed(one, caller())}
