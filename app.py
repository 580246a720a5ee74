"""The web application, and the only place where its parts are wired."""

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from threading import BoundedSemaphore
from typing import TypeVar

from flask import Flask, Response, g, has_request_context, request
from sqlalchemy.exc import SQLAlchemyError

import catalog
import cli
import logs
import observe
import oidc
from catalog import markers
from engine.control import compile as compile_control
from engine.plan import Plan
from engine.target import Target, open_target
from errors import LadingError, TargetUnavailable
from jobs import queues
from jobs.trial import Trials
from pages.site import site
from routes import (
    Parts,
    addresses,
    api_docs,
    auth,
    batch,
    batches,
    compat,
    control,
    cors,
    drift,
    fields,
    file,
    handle,
    health,
    imports,
    metrics,
    replies,
    results,
    resumable,
    schedule,
    status,
    templates,
    trial,
    upload,
    webhooks,
)
from schemas import control as control_files
from settings import Settings
from spool import open_spool

R = TypeVar("R")

BLUEPRINTS = (
    control.routes, trial.routes, drift.routes, batch.routes, file.routes, handle.routes, resumable.routes, schedule.routes, imports.routes,
    status.routes, results.routes, batches.routes, templates.routes, webhooks.routes, addresses.routes, health.routes, metrics.routes,
    api_docs.routes, *compat.BLUEPRINTS, site,
)  # fmt: skip
SMALL_BODY_BYTES = 1024 * 1024  # of forms and JSON objects; uploads have limits of their own
UNTOLD = {"/healthz", "/readyz", "/metrics"}  # asked all day long; traces would be of little else
SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

log = logging.getLogger(__name__)


def create_app(settings: Settings | None = None) -> Flask:
    """Make the application from these settings, or from the environment. Nothing is connected to before the first request."""
    settings = settings or Settings.from_environment()
    logs.configure(settings.log_format, about)
    oidc.check(settings)
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = SMALL_BODY_BYTES
    app.url_map.merge_slashes = False  # else `//` would be answered with a redirect, and as a page
    app.extensions["lading"] = wire(settings)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    app.wsgi_app = compat.and_for_second_question_mark(app.wsgi_app, compat.prefixes())  # type: ignore[assignment, method-assign]
    cli.register(app, settings)
    app.before_request(_begin)
    app.before_request(cors.answer_preflight)
    app.before_request(auth.refuse_keys_in_query)
    app.before_request(fields.refuse_nul)
    app.register_error_handler(Exception, replies.answer_error)
    app.after_request(_finish)
    app.after_request(cors.allow)
    return app


def wire(settings: Settings) -> Parts:
    """Open, without connecting yet, all that the routes need."""
    target = open_target(settings.target_url)

    def compiled(data: bytes) -> Plan:
        document = control_files.examine(data, settings.max_control_bytes)
        return _of_target(target, lambda: compile_control(document, target.tables(), target.dialect))

    return Parts(
        settings=settings,
        catalog=catalog.connect(settings.catalog_url),
        spool=open_spool(settings.spool_url, settings.spool_cache, settings.spool_cache_bytes),
        redis=queues.connect(settings.redis_url),
        compile=compiled,
        waiters=BoundedSemaphore(settings.web_threads // 2),
        tables=lambda: _of_target(target, target.tables),
        values_of=lambda table, column, most: _of_target(target, lambda: target.values_of(table, column, most)),
        send_test_mail=partial(_send_test_mail, settings),
        try_sample=Trials(settings.target_url, settings.max_control_bytes).run,
        check_target=lambda: _of_target(target, lambda: target.tables().names()),
        close_target=target.close,
    )


def _send_test_mail(settings: Settings, to: Sequence[str]) -> None:
    from jobs import mail  # only where it is needed: what it brings along takes memory

    mail.send_test(to, sender=settings.mail_from or "", server=settings.smtp_url or "")


def _of_target(target: Target, ask: Callable[[], R]) -> R:
    """Ask the target something; whatever its driver says has gone wrong is no fault of ours, nor of the caller's."""
    try:
        return ask()
    except target.errors as error:
        raise TargetUnavailable(str(error)) from error


def say_if_spool_is_another(settings: Settings) -> None:
    """Log an error where this process sees another spool than the catalog knows: a batch's files would not be found.

    It runs at the start, perhaps before the server forks, so it uses a connection of its own.
    """
    engine = catalog.connect(settings.catalog_url)
    try:
        marker = open_spool(settings.spool_url, settings.spool_cache, settings.spool_cache_bytes).marker()
        if markers.record_marker(engine, "spool", marker) != marker:
            log.error("SPOOL_URL is not the spool that the catalog knows: all web and worker processes must share one")
    except (SQLAlchemyError, OSError, LadingError) as error:
        log.warning("could not compare the spool with the catalog's: %s", error)
    finally:
        engine.dispose()


def _begin() -> None:
    g.started = time.monotonic()
    replies.take_request_id()
    g.span = observe.begin("request", request.headers.get("traceparent"))


def about() -> dict[str, object]:
    """Return what tells a request's log lines from others': its id, its key's, and its batch's."""
    if not has_request_context():
        return {}
    return {"request_id": g.get("request_id"), "key_id": g.key.id if "key" in g else None, "batch_id": g.get("batch_id")}


def _finish(reply: Response) -> Response:
    """Give every reply its id and its safe headers, and log the request: never its query, which may hold what is nobody's business."""
    reply.headers["X-Request-Id"] = g.request_id
    for name, value in SAFE_HEADERS.items():
        reply.headers.setdefault(name, value)
    fields = {
        "method": request.method,
        "path": request.path,
        "status": reply.status_code,
        "ms": round((time.monotonic() - g.started) * 1000, 1),
        "request_id": g.request_id,
        "key_id": g.key.id if "key" in g else None,
    }
    log.info("request", extra={"fields": fields})
    _end_span(reply)
    if reply.status_code >= 400 and "wsgi.input" in request.environ:
        reply.call_on_close(partial(upload.read_on, request.environ["wsgi.input"]))
    return reply


def _end_span(reply: Response) -> None:
    """Tell of the request by its route: a path, and any method of somebody's own making, may be anything."""
    rule = request.url_rule.rule if request.url_rule else None
    g.span.name = f"{request.method} {rule}" if rule else "no route"
    ids = {f"lading.{name}": value for name, value in about().items() if name in observe.TAGS and value is not None}
    of_route = {"http.request.method": request.method, "http.route": rule} if rule else {}
    g.span.attributes |= {"http.response.status_code": reply.status_code, **of_route, **ids}
    g.span.is_failed = reply.status_code >= 500
    observe.end(g.span, is_told=rule not in UNTOLD)
