"""Is the service alive, and can it carry out imports?"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from threading import Lock, Thread

from flask import Blueprint, Flask, current_app
from flask.typing import ResponseReturnValue
from redis.exceptions import RedisError
from sqlalchemy.exc import SQLAlchemyError

from catalog import markers
from errors import LadingError
from jobs import queues
from routes import parts, replies
from routes.described import Reply, described
from schemas.replies import AliveReply, ReadyReply

routes = Blueprint("health", __name__)

log = logging.getLogger(__name__)

OK = "ok"
SILENT = "does not answer"
ANSWER_SECONDS = 5.0  # what a load balancer waits for at least; a part behind a network that swallows everything takes longer

_asking = Lock()


class NotReady(LadingError):
    """A part cannot do its work; the message is a word of why, fit for anybody's eyes."""


@routes.get("/healthz")
@described(replies={200: Reply(AliveReply)})
def healthz() -> ResponseReturnValue:
    """Tell that the process is alive."""
    return replies.bare(OK, {"status": OK})


@routes.get("/readyz")
@described(replies={200: Reply(ReadyReply), 503: Reply(ReadyReply, description="A part does not work.")})
def readyz() -> ResponseReturnValue:
    """Tell of each part that an import needs whether it works; 503 if one does not."""
    said = all_said()
    status = 200 if set(said.values()) == {OK} else 503
    if replies.wants_json():
        return replies.json({"ready": status == 200, "parts": said}, status)
    return replies.text("".join(f"{name}: {word}\n" for name, word in said.items()), status)


def all_said() -> dict[str, str]:
    """Return `ok`, or a word of what is wrong, of each part. All are asked at once, and none is waited for longer than is told."""
    until = time.monotonic() + ANSWER_SECONDS
    asked = {name: _asked(name, probe) for name, probe in PROBES.items()}
    wait(asked.values(), max(until - time.monotonic(), 0))
    return {name: answer.result() if answer.done() else SILENT for name, answer in asked.items()}


def _asked(name: str, probe: Callable[[], None]) -> Future[str]:
    """Ask a part in a thread of its own, unless one that was asked earlier is still waited for: then its answer will do."""
    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    asked: dict[str, Future[str]] = app.extensions.setdefault("lading-probes", {})
    with _asking:
        if (earlier := asked.get(name)) is not None and not earlier.done():
            return earlier
        answer = asked[name] = Future()
    Thread(target=_answer, args=(app, answer, name, probe), name=f"probe-{name}", daemon=True).start()
    return answer


def _answer(app: Flask, answer: Future[str], name: str, probe: Callable[[], None]) -> None:
    try:
        with app.app_context():
            said = _said(name, probe)
    except BaseException as error:
        answer.set_exception(error)  # whoever asked is told, as by a call
    else:
        answer.set_result(said)


def _said(name: str, probe: Callable[[], None]) -> str:
    """Return `ok`, or a word of what is wrong. Anybody may ask, so what the part itself said goes to the log alone."""
    try:
        probe()
    except NotReady as reason:
        return str(reason)
    except (SQLAlchemyError, RedisError, OSError, LadingError) as error:
        log.warning("not ready: %s: %s", name, error)
        return "cannot be reached"
    return OK


def _probe_catalog() -> None:
    try:
        markers.marker(parts().catalog, "spool")
    except SQLAlchemyError as error:
        log.warning("not ready: catalog: %s", error)
        raise NotReady("cannot be reached, or has no tables yet (flask db upgrade)") from error


def _probe_redis() -> None:
    parts().redis.ping()


def _probe_spool() -> None:
    """The spool must be the very one that was there first; where web and worker share no disk, one of them sees another."""
    marker = parts().spool.marker()
    if markers.record_marker(parts().catalog, "spool", marker) != marker:
        raise NotReady("is not the spool that the catalog knows: web and worker must share one")


def _probe_target() -> None:
    parts().check_target()


def _probe_worker() -> None:
    seen = queues.alive(parts().redis)
    if not seen:
        raise NotReady("none has given a sign of life")
    if any(marker != parts().spool.marker() for marker in seen.values()):
        raise NotReady("one sees another spool than the web process: they must share one")


PROBES: dict[str, Callable[[], None]] = {
    "catalog": _probe_catalog,
    "redis": _probe_redis,
    "spool": _probe_spool,
    "target": _probe_target,
    "worker": _probe_worker,
}
