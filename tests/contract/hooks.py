"""What Schemathesis cannot know of the service: which values belong together, what is there to be found, and how bytes are sent."""

from __future__ import annotations

import itertools
import json
import os
from typing import Any

import schemathesis
from schemathesis.core.failures import Failure
from schemathesis.openapi.checks import IgnoredAuth

# No value made at random is the digest or the range of the body beside it, metadata in Base64, or the end of a page; data come by a handle
# or in a body, not by both; and a header that nobody knows is no fault. What becomes of these is seen in the tests of their routes.
LEFT_OUT = (
    "Content-Digest", "Repr-Digest", "Content-Range", "Upload-Checksum", "Upload-Metadata", "sha256", "cursor", "handle",
    "x-schemathesis-unknown-property",
)  # fmt: skip
CALLS = itertools.count()


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: schemathesis.Case, kwargs: dict[str, Any]) -> None:
    """Take out what would be refused whatever it is, and ask, every other time, for things that are there."""
    for name in LEFT_OUT:
        case.headers.pop(name, None)
        case.query.pop(name, None)
        if isinstance(case.body, dict):
            case.body.pop(name, None)
    if next(CALLS) % 2:
        known = json.loads(os.environ["KNOWN"])
        case.path_parameters.update({name: known[name] for name in case.path_parameters if name in known})


@schemathesis.hook
def filter_failure(context: schemathesis.HookContext, failure: Failure, case: schemathesis.Case, response: schemathesis.Response) -> bool:
    """Take for refusals what Schemathesis does not.

    429: it knows 401 and 403 only, and sends more requests without a key than are borne. 414: the server before the application says
    so of a query of more than 4094 characters.
    """
    return response.status_code != 414 and not (isinstance(failure, IgnoredAuth) and "429" in failure.message)


@schemathesis.serializer("application/offset+octet-stream")
def as_bytes(context: schemathesis.SerializationContext, value: Any) -> bytes:
    """Send a part of an upload as it is."""
    return value if isinstance(value, bytes) else str(value).encode()
