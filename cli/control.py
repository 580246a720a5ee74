"""`flask control`: control files, looked at and made without the service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import click

from cli.base import Exit, Group, json_option, opened_target, put, say
from engine.control import compile as compile_control, snapshot
from engine.control.generate import generated_control
from engine.readers import FileRefused
from engine.tables import Tables
from errors import ControlFileInvalid, Problem, Refusal
from jobs import trial
from schemas import control as control_files
from settings import Settings

_TABLES_HELP = "Take the target's tables from this file, which `flask control tables` wrote, instead of asking the target."


def group(settings: Settings) -> click.Group:
    """Return `flask control`."""
    made = Group("control", help="Check and make control files.")
    tables_option = click.option("--tables", "saved", type=click.Path(exists=True, dir_okay=False, path_type=Path), help=_TABLES_HELP)

    @made.command("check")
    @click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
    @tables_option
    @json_option
    def check(file: Path, saved: Path | None, is_json: bool) -> None:
        """Check a control file as the service does, without storing it. Prints every fault with its line."""
        with _tables(settings, saved) as (tables, dialect):
            try:
                document = control_files.examine(file.read_bytes(), settings.max_control_bytes)
                plan = compile_control(document, tables, dialect)
            except ControlFileInvalid as invalid:
                put(is_json, {"faults": [_fault(p) for p in invalid.problems], "tables": []}, "\n".join(map(str, invalid.problems)))
                raise click.exceptions.Exit(Exit.FAILED) from invalid
        names = [name if schema is None else f"{schema}.{name}" for schema, name in plan.tables]
        put(is_json, {"faults": [], "tables": names}, f"no faults; it writes to: {', '.join(names)}")

    @made.command("try")
    @click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
    @click.argument("sample", type=click.File("rb"))
    @click.option("--name", default="", help="Which of the control file's files the sample is; otherwise what it is called, or the first.")
    @json_option
    def try_on(file: Path, sample: BinaryIO, name: str, is_json: bool) -> None:
        """Print what the first records of a sample would become. Nothing is written; the target is asked for the rows that exist."""
        text = file.read_bytes().decode("utf-8", "replace")
        task = trial.Task(text, name, Path(sample.name).name, True, max_control_bytes=settings.max_control_bytes)
        with opened_target(settings) as target:
            try:
                told = trial.as_reply(trial.tried(task, sample, target))
            except ControlFileInvalid as invalid:
                raise click.ClickException("\n".join(map(str, invalid.problems))) from invalid
            except FileRefused as refused:
                raise click.ClickException(refused.message) from refused
        put(is_json, told, "\n".join(record["text"] for record in told["records"]))

    @made.command("generate")
    @click.argument("table")
    @tables_option
    def generate(table: str, saved: Path | None) -> None:
        """Print a control file made from a table: all its columns, its key, its references."""
        with _tables(settings, saved) as (tables, _):
            try:
                click.echo(generated_control(tables, table), nl=False)
            except Refusal as refusal:
                raise click.ClickException(str(refusal)) from refusal

    @made.command("tables")
    def tables() -> None:
        """Print what control files are checked against, the target's tables, as JSON."""
        with opened_target(settings) as target:
            saved = snapshot.dump(target.tables(), target.dialect)
        click.echo(json.dumps(saved, indent=1, ensure_ascii=False))
        say(f"{len(saved['tables'])} tables")

    return made


def _fault(problem: Problem) -> dict[str, object]:
    return {"line": problem.line, "path": problem.path, "message": problem.message, "allowed": list(problem.allowed)}


@contextmanager
def _tables(settings: Settings, saved: Path | None) -> Iterator[tuple[Tables, str]]:
    """Give the tables to check against, and their dialect."""
    if saved is None:
        with opened_target(settings) as target:
            yield target.tables(), target.dialect
        return
    try:
        loaded = snapshot.load(json.loads(saved.read_text(encoding="utf-8")))
    except snapshot.SnapshotInvalid as reason:
        raise click.UsageError(f"{saved}: {reason}") from reason
    except ValueError as reason:
        raise click.UsageError(f"{saved} is no JSON: {reason}") from reason
    yield loaded
