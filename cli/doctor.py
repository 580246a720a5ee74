"""`flask doctor`: looks at every setting and connection, and says what to do about what is wrong."""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from urllib.parse import urlsplit

import click
from redis.exceptions import RedisError
from sqlalchemy.exc import DBAPIError

import catalog
import clock
import observe
import oidc
from catalog import keys, markers
from cli.base import Command, Exit, json_option, put
from engine.target import open_target
from errors import LadingError, SettingInvalid, TargetUnavailable
from settings import Settings
from spool import open_spool

_PROBE = b"lading doctor\n"
CONNECT_SECONDS = 5
_SKEW_SECONDS = 2  # clocks of processes that share leases of 30 seconds may differ by so much


class Health(StrEnum):
    """How a part does."""

    OK = "ok"
    DOUBTFUL = "doubtful"  # it works, but somebody should look at it
    WRONG = "wrong"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class Finding:
    """What was seen of a part, and what to do about it."""

    part: str
    health: Health
    said: str
    advice: str = ""


def command() -> click.Command:
    """Return `flask doctor`. It reads the settings itself: they may be what is wrong."""

    @click.command("doctor", cls=Command)
    @json_option
    def doctor(is_json: bool) -> None:
        """Look at every setting and connection, and say what to do about what is wrong."""
        found = list(findings())
        lines = [f"{f.part}: {f.health}: {f.said}" + (f"\n    {f.advice}" if f.advice else "") for f in found]
        put(is_json, [asdict(finding) for finding in found], "\n".join(lines))
        seen = {finding.health for finding in found}
        raise click.exceptions.Exit(Exit.UNREACHABLE if Health.UNREACHABLE in seen else Exit.FAILED if Health.WRONG in seen else Exit.OK)

    return doctor


def findings() -> Iterator[Finding]:
    """Look at one part after another. With a setting that is wrong, nothing can be connected to."""
    problems = Settings.problems()
    if problems:
        yield from (Finding(name, Health.WRONG, said, "Change or unset it: docs/reference/settings.md.") for name, said in problems.items())
        return
    settings = Settings.from_environment()
    yield Finding("settings", Health.OK, "all are good")
    for part, look in _LOOKS.items():
        try:
            yield from (Finding(part, *found) for found in look(settings))
        except (DBAPIError, RedisError, TargetUnavailable, OSError) as error:
            yield Finding(part, Health.UNREACHABLE, f"{part} cannot be reached: {getattr(error, 'orig', error)}", _CONNECT[part])
        except (LadingError, SettingInvalid) as error:
            yield Finding(part, Health.WRONG, str(error), _CONNECT[part])


_Found = tuple[Health, str] | tuple[Health, str, str]


def _catalog(settings: Settings) -> Iterator[_Found]:
    from catalog import migrate

    engine = catalog.connect(settings.catalog_url)
    try:
        found, wanted = migrate.versions(engine)
        if found != wanted:
            yield Health.WRONG, f"its tables are of version {found}, and {wanted} is wanted", "Run `flask db upgrade`."
            return
        yield Health.OK, f"version {found}"
        if not any(key.is_valid(clock.now()) for key in keys.all_keys(engine)):
            yield Health.DOUBTFUL, "no key is valid", "Make one: flask key create --name me --permission import --permission read."
    finally:
        engine.dispose()


def _target(settings: Settings) -> Iterator[_Found]:
    target = open_target(settings.target_url)
    try:
        names = target.tables().names()
        yield Health.OK, f"{target.dialect}, {len(names)} tables"
        if not names:
            yield Health.DOUBTFUL, "no table can be imported into", "Is TARGET_URL the right database, and may the role see its tables?"
        try:
            target.runs()
        except TargetUnavailable as error:
            yield Health.WRONG, str(error), "Run `flask db upgrade`; what the role needs is told in docs/how-to/postgresql.md."
    except target.errors as error:
        raise TargetUnavailable(str(error).strip()) from error
    finally:
        target.close()


def _controls(settings: Settings) -> Iterator[_Found]:
    from catalog import migrate, shapes
    from engine.control import compile as compile_control
    from engine.control.drift import MOST, standings
    from schemas.control import parse

    engine, target = catalog.connect(settings.catalog_url), open_target(settings.target_url)
    store = open_spool(settings.spool_url, settings.spool_cache, settings.spool_cache_bytes)

    def text_of(digest: str) -> bytes:
        with store.open(digest) as stored:
            return stored.read()

    try:
        if len(set(migrate.versions(engine))) > 1:
            return  # which is told of the catalog already
        seen, tables = shapes.seen(engine, MOST), target.tables()
        found, _ = standings(seen, text_of, lambda text: compile_control(parse(text), tables, target.dialect), tables)
    except target.errors as error:
        raise TargetUnavailable(str(error).strip()) from error
    finally:
        engine.dispose()
        target.close()
    advice = "See `System` in the pages, or GET /api/controls/drift; mend the control file, or the table."
    for one in found:
        if one.faults:
            yield Health.DOUBTFUL, f"{one.name} no longer fits the target: {one.faults[0]}", advice
        elif one.changes:
            yield Health.DOUBTFUL, f"the tables of {one.name} have changed since it was checked: {one.changes[0]}", advice
    yield Health.OK, f"{len(found)} looked at"


def _spool(settings: Settings) -> Iterator[_Found]:
    store = open_spool(settings.spool_url, settings.spool_cache, settings.spool_cache_bytes)
    with store.receive() as receiver:
        receiver.write(_PROBE)
        digest, _ = receiver.commit()
    store.verify(digest)
    store.delete(digest, unused_seconds=0)
    yield Health.OK, "bytes were stored, read and deleted"
    engine = catalog.connect(settings.catalog_url)
    try:
        known = markers.marker(engine, "spool")
    except DBAPIError:
        return  # The catalog has been told of already.
    finally:
        engine.dispose()
    if known not in (None, store.marker()):
        advice = "All web and worker processes must share one: set SPOOL_URL to it, or move the spool together with the catalog."
        yield Health.WRONG, "it is not the spool that the catalog knows", advice


def _redis(settings: Settings) -> Iterator[_Found]:
    from jobs import queues

    redis = queues.connect(settings.redis_url)
    try:
        seconds, micros = redis.time()
        yield Health.OK, f"{len(queues.hints(redis))} messages wait"
        skew = time.time() - seconds - micros / 1e6
        if abs(skew) > _SKEW_SECONDS:
            yield Health.DOUBTFUL, f"this machine's clock is {skew:+.0f} seconds off Redis's", "Have both keep time by NTP."
        policy = str(redis.info("memory").get("maxmemory_policy", ""))
        if policy.startswith("allkeys"):
            yield (
                Health.DOUBTFUL,
                f"it drops what it likes when it is full ({policy})",
                "Set maxmemory-policy to noeviction, else batches may start late.",
            )
        workers = queues.alive(redis)
        if not workers:
            yield Health.DOUBTFUL, "no worker has given a sign of life", "Start one: python worker.py."
        elif any(
            marker != open_spool(settings.spool_url, settings.spool_cache, settings.spool_cache_bytes).marker()
            for marker in workers.values()
        ):
            yield Health.WRONG, "a worker sees another spool", "All web and worker processes must share one: SPOOL_URL."
        else:
            yield Health.OK, f"{len(workers)} workers live"
    finally:
        redis.close()


def _mail(settings: Settings) -> Iterator[_Found]:
    if settings.smtp_url is None or settings.mail_from is None:
        yield Health.OK, "none is sent: SMTP_URL is unset"
        return
    from jobs import mail

    with mail.connected(settings.smtp_url, settings.mail_from) as client:
        client.noop()
    yield Health.OK, "the server answers"


def _observers(settings: Settings) -> Iterator[_Found]:
    for variable, said in observe.lacking(settings).items():
        yield Health.WRONG, f"{variable} is set, but {said}", f"Install it, or unset {variable}."
    given = {"SENTRY_DSN": settings.sentry_dsn, "OTEL_EXPORTER_OTLP_ENDPOINT": settings.otel_exporter_otlp_endpoint}
    for variable, address in given.items():
        if address is not None:
            parts = urlsplit(address)
            with socket.create_connection((str(parts.hostname), parts.port or {"http": 80}.get(parts.scheme, 443)), CONNECT_SECONDS):
                yield Health.OK, f"{variable}: {parts.hostname} can be reached"
    if not any(given.values()):
        yield Health.OK, "nothing is told: SENTRY_DSN and OTEL_EXPORTER_OTLP_ENDPOINT are unset"


def _people(settings: Settings) -> Iterator[_Found]:
    provider = oidc.of_settings(settings)
    if provider is None:
        yield Health.OK, "people sign in with keys: OIDC_ISSUER is unset"
    elif oidc.lacking():
        yield Health.WRONG, f"OIDC_ISSUER is set, but {' and '.join(oidc.lacking())} are not installed", f"Run `{oidc.INSTALL}`."
    else:
        provider.parts()
        yield Health.OK, f"{provider.host} answers, and calls itself as OIDC_ISSUER does"
        if not any((settings.oidc_admin, settings.oidc_import, settings.oidc_read)):
            yield Health.DOUBTFUL, "nobody may sign in by it", "Set OIDC_ADMIN, OIDC_IMPORT or OIDC_READ: docs/how-to/sign-in.md."


def _scratch(settings: Settings) -> Iterator[_Found]:
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    said = f"{free / 2**30:.1f} GiB free in {folder}"
    if free < settings.max_line_bytes * 4:
        yield Health.DOUBTFUL, said, "Ordered imports, workbooks and JSON arrays need room there; make some, or set TMPDIR."
    else:
        yield Health.OK, said


_LOOKS: dict[str, Callable[[Settings], Iterator[_Found]]] = {
    "catalog": _catalog, "target": _target, "spool": _spool, "control files": _controls, "redis": _redis, "mail": _mail,
    "errors and traces": _observers, "people": _people,
    "temporary files": _scratch,
}  # fmt: skip
_CONNECT = {
    "catalog": "Look at CATALOG_URL (or DATABASE_URL), and whether the database runs; then `flask db upgrade`.",
    "target": "Look at TARGET_URL (or DATABASE_URL), and whether the database runs and lets this role in.",
    "spool": "Look at SPOOL_URL, and whether this user may write there.",
    "control files": "Look at what is said of catalog, target and spool first.",
    "redis": "Look at REDIS_URL, and whether it runs. Until then batches wait for the sweep.",
    "mail": "Look at SMTP_URL: host, port, user, password. Until then mails wait.",
    "errors and traces": "Look at SENTRY_DSN and OTEL_EXPORTER_OTLP_ENDPOINT. Until then nothing is told, and imports go on.",
    "people": "Look at OIDC_ISSUER. Until then people sign in with keys only.",
    "temporary files": "Set TMPDIR to a folder that this user may write to.",
}
