"""Figures of the whole installation, for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, Response
from flask.typing import ResponseReturnValue
from redis.exceptions import RedisError

from catalog import metrics
from catalog.metrics import Family, Sample
from jobs import queues
from routes import health, parts
from routes.auth import requires
from routes.described import Reply, described

routes = Blueprint("metrics", __name__)

TYPE = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})


@routes.get("/metrics")
@requires("read:all")
@described(replies={200: Reply(description="Prometheus's text format.")})
def get_metrics() -> ResponseReturnValue:
    """Tell the figures of the whole installation, whichever process answers, in Prometheus's text format."""
    families = [*metrics.families(parts().catalog), *_of_parts()]
    return Response("".join(line for family in families for line in _lines(family)), content_type=TYPE)


def _of_parts() -> list[Family]:
    said = health.all_said()
    up = [Sample(int(word == health.OK), {"part": name}) for name, word in said.items()]
    try:
        workers = len(queues.alive(parts().redis))
    except (RedisError, OSError):
        workers = 0
    return [
        Family("lading_part_up", "gauge", "Whether a part works, as /readyz tells.", up),
        Family("lading_workers", "gauge", "Workers that have given a sign of life.", [Sample(workers, {})]),
    ]


def _lines(family: Family) -> Iterator[str]:
    yield f"# HELP {family.name} {family.about}\n"
    yield f"# TYPE {family.name} {family.kind}\n"
    for sample in family.samples:
        labels = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in sample.labels.items())
        yield f"{family.name}{sample.suffix}{f'{{{labels}}}' if labels else ''} {sample.value!r}\n"
