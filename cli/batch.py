"""`flask batch`: imports without the web process, Redis or a worker."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event

import click
from sqlalchemy import Engine

from catalog import batches, controls, files, markers, twins
from catalog.batches import Batch, Execution, Mode, Options
from catalog.standing import import_exit, line_of
from cli import databases
from cli.base import Exit, Group, Unreachable, json_option, opened_catalog, opened_target, put, say
from engine.control import accepts_file, compile as compile_control, file_names, required_files
from engine.target import Target
from errors import ControlFileInvalid, LadingError, Refusal, SpoolFull, TargetUnavailable, TooLarge
from schemas import control as control_files
from schemas.replies import BatchReply, FileReply
from settings import Settings
from spool import Spool, open_spool

MAKER = "command"  # stands where other batches have the id of their key; no key has it, so only keys that see all see these batches
_COPIED_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Means:
    settings: Settings
    catalog: Engine
    spool: Spool
    target: Target


def group(settings: Settings) -> click.Group:
    """Return `flask batch`."""
    made = Group("batch", help="Import files without the service.")
    a_file = click.Path(dir_okay=False, path_type=Path)

    @made.command("run")
    @click.argument("given", nargs=-1, required=True, metavar="[NAME=]FILE...")
    @click.option("--control", required=True, help="A control file, or the name or digest of one that the service has.")
    @click.option("--dry-run", "is_dry", is_flag=True, help="Find out what would come of it; nothing is kept.")
    @click.option("--all-or-none", "is_all", is_flag=True, help="Keep nothing if one record is refused.")
    @click.option("--ordered", "is_ordered", is_flag=True, help="Take the records group by group.")
    @click.option("--comment", default="", help="What the batch is to say of itself.")
    @click.option("--results", "results", type=a_file, help="Write the results here instead of printing them.")
    @json_option
    def run(
        given: Sequence[str], control: str, is_dry: bool, is_all: bool, is_ordered: bool, comment: str, results: Path | None, is_json: bool
    ) -> None:
        """Import files and print the result of every record. The exit status is the batch's Import-Exit."""
        named = _named(given)
        options = Options(Mode.DRY_RUN if is_dry else Mode.IMPORT, Execution.ALL_OR_NONE if is_all else Execution.PER_RECORD, is_ordered)
        with _opened(settings) as means:
            batch = _carried_out(means, _batch_id(means, control, named, options, comment))
            _tell(means, batch, results, is_json)
        raise click.exceptions.Exit(import_exit(batch))

    return made


def _named(given: Sequence[str]) -> dict[str, Path]:
    """Return the files by the names under which the control file knows them."""
    named: dict[str, Path] = {}
    for text in given:
        name, sign, path = text.partition("=")
        file = Path(text) if not sign or Path(text).is_file() else Path(path)
        name = file.name if file == Path(text) else name
        if not file.is_file():
            raise click.BadParameter(f"there is no file {file}", param_hint="FILE")
        if name in named:
            raise click.BadParameter(f"two files are named {name}", param_hint="FILE")
        named[name] = file
    return named


@contextmanager
def _opened(settings: Settings) -> Iterator[_Means]:
    """Open all that an import needs; catalog, ledger and spool are made where there are none."""
    from catalog import migrate  # it brings Alembic along, which no web process needs

    with opened_catalog(settings, may_make=True) as engine, opened_target(settings) as target:
        found, wanted = migrate.versions(engine)
        if found is None:
            databases.make(settings)
        elif found != wanted:
            raise click.ClickException("the catalog is of another version: run `flask db upgrade`")
        try:
            store = open_spool(settings.spool_url, settings.spool_cache, settings.spool_cache_bytes)
            is_ours = markers.record_marker(engine, "spool", marker := store.marker()) == marker
        except (OSError, LadingError) as error:
            raise Unreachable(f"the spool cannot be used: {error}") from error
        if not is_ours:
            raise click.ClickException("SPOOL_URL is not the spool that the catalog knows")
        yield _Means(settings, engine, store, target)


# The batch -----------------------------------------------------------------------------------------------------------------
def _batch_id(means: _Means, control: str, named: Mapping[str, Path], options: Options, comment: str) -> int:
    """Schedule the batch and return its id; that of an equal one which such a command left before its end, where there is one."""
    digest = _control(means, control, named)
    try:
        stored = {name: _stored(means, path) for name, path in named.items()}
        found = twins.unfinished(means.catalog, MAKER, digest, stored, options)
        if found is not None:
            say(f"batch {found}: goes on")
            return found
        made = batches.create(means.catalog, control=digest, key_id=MAKER, comment=comment)
        for name, of_file in stored.items():
            batches.attach(means.catalog, made, name, of_file)
        known = controls.get(means.catalog, digest)
        batches.schedule(means.catalog, made, options, known.tables if known else ())
    except (Refusal, SpoolFull, TooLarge) as error:
        raise click.ClickException(str(error)) from error
    say(f"batch {made}")
    return made


def _control(means: _Means, control: str, named: Mapping[str, Path]) -> str:
    """Return the digest of the control file, stored if it comes from a file; it must have a place for each of the files."""
    path = Path(control)
    known = None if path.is_file() else controls.resolve(means.catalog, control)
    if known is None and not path.is_file():
        raise click.BadParameter("there is no such file, and no control file of this name or digest", param_hint="--control")
    if known is None:
        data = path.read_bytes()
    else:
        with means.spool.open(known.digest) as stored:
            data = stored.read()
    try:
        document = control_files.examine(data, means.settings.max_control_bytes)
        plan = compile_control(document, means.target.tables(), means.target.dialect)
    except ControlFileInvalid as invalid:
        raise click.ClickException("the control file has faults:\n" + "\n".join(map(str, invalid.problems))) from invalid
    _refuse_unfit(document, set(named))
    if known is not None:
        return known.digest
    with means.spool.receive() as receiver:
        receiver.write(data)
        digest, _ = receiver.commit()
    controls.add(means.catalog, digest, key_id=MAKER, tables=plan.tables)
    return digest


def _refuse_unfit(document: control_files.Document, names: set[str]) -> None:
    for name in sorted(names):
        if not accepts_file(document, name):
            allowed = ", ".join(file_names(document))
            raise click.BadParameter(f"the control file has no file {name} (it has: {allowed}); say NAME=FILE", param_hint="FILE")
    missing = [name for name in required_files(document) if name not in names]
    if missing:
        raise click.BadParameter(f"the control file requires {', '.join(missing)} too", param_hint="FILE")


def _stored(means: _Means, path: Path) -> str:
    """Put a file into the spool; return its digest."""
    with path.open("rb") as source, means.spool.receive(means.settings.max_upload_bytes) as receiver:
        shutil.copyfileobj(source, receiver, _COPIED_BYTES)
        digest, size = receiver.commit()
    files.add(means.catalog, digest, size, key_id=MAKER, name=path.name)
    return digest


# Its way, and its end ------------------------------------------------------------------------------------------------------
def _carried_out(means: _Means, batch_id: int) -> Batch:
    """Carry the batch out until it is over, or until SIGTERM or Ctrl-C; return it as it is then."""
    from jobs import alone  # it brings the whole engine along

    is_over = Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in before:
        signal.signal(number, lambda *_: is_over.set())
    worker, talk = f"{socket.gethostname()}.{os.getpid()}", logging.getLogger("jobs")
    level = talk.level
    talk.setLevel(logging.WARNING)  # how the batch ends is said by the command itself
    try:
        alone.carry_out(means.settings, means.catalog, means.spool, means.target, batch_id, worker, is_over.is_set)
    except (TargetUnavailable, SpoolFull):
        say(f"batch {batch_id}: handed back; the same command goes on with it")
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        talk.setLevel(level)
    batch = batches.get(means.catalog, batch_id)
    if batch is None:
        raise click.ClickException(f"batch {batch_id} is gone")
    return batch


def _tell(means: _Means, batch: Batch, results: Path | None, is_json: bool) -> None:
    """Give the results and say how it went."""
    if batch.run is not None and batch.run.results_digest is not None and (results is not None or not is_json):
        with means.spool.open(batch.run.results_digest) as log:
            if results is not None:
                with results.open("wb") as file:
                    shutil.copyfileobj(log, file, _COPIED_BYTES)
            else:
                shutil.copyfileobj(log, sys.stdout.buffer, _COPIED_BYTES)
    if is_json:
        put(is_json, {**BatchReply().dump(batch), "files": FileReply(many=True).dump(batches.files(means.catalog, batch.id))}, text="")
    say(f"batch {batch.id}: {line_of(batch)}{f' ({batch.status_msg})' if batch.status_msg else ''}")
    if import_exit(batch) == Exit.UNFINISHED:
        say("It is not finished: the same command, or a worker, goes on with it.")
