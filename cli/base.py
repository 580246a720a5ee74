"""What all commands share: exit statuses, what goes where, and how the catalog and the target are opened.

Data go to stdout, and everything else that is said to stderr, so that a pipe or `$(...)` holds what was asked for and nothing besides.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import Any

import click
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

import catalog
from engine.target import Target, open_target
from errors import SpoolFull, TargetUnavailable
from settings import Settings, sqlite_path


class Exit(IntEnum):
    """What a command ends with: a batch's `Import-Exit`, and two numbers of sysexits.h."""

    OK = 0
    FAILED = 1
    REFUSED = 2  # some rows were
    UNFINISHED = 3
    USAGE = 64
    UNREACHABLE = 69  # a database, Redis or the spool


class Unreachable(click.ClickException):
    """Something that the command needs does not answer."""

    exit_code = Exit.UNREACHABLE


@contextmanager
def _usage_told_apart() -> Iterator[None]:
    """Have a wrong call end with 64: click's own 2 says of an import that rows were refused."""
    try:
        yield
    except click.UsageError as error:
        vars(error)["exit_code"] = Exit.USAGE  # of this error alone
        raise


class Command(click.Command):
    """A command of ours that belongs to no group."""

    def make_context(self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any) -> click.Context:
        """Read the words of the call."""
        with _usage_told_apart():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Do what was asked for."""
        with _usage_told_apart():
            return super().invoke(ctx)


class Group(click.Group):
    """A group of our commands."""

    def make_context(self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any) -> click.Context:
        """Read the words of the call as far as they are the group's own."""
        with _usage_told_apart():
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Read the rest, and do what was asked for."""
        with _usage_told_apart():
            return super().invoke(ctx)


def json_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the option `--json`, as its argument `is_json`."""
    return click.option("--json", "is_json", is_flag=True, help="Print JSON.")(function)


def put(is_json: bool, data: Any, text: str) -> None:
    """Print data on stdout: as JSON, or as text."""
    click.echo(json.dumps(data, indent=2, ensure_ascii=False, default=str) if is_json else text)


def say(text: str) -> None:
    """Tell the user something that is no data."""
    click.echo(text, err=True)


@contextmanager
def opened_catalog(settings: Settings, *, may_make: bool = False) -> Iterator[Engine]:
    """Open the catalog for a command, and tell apart that it does not answer and that it has no tables.

    With `may_make` the folder of a SQLite catalog is made where there is none.
    """
    path = sqlite_path(settings.catalog_url)
    if may_make and path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    engine = catalog.connect(settings.catalog_url)
    is_reached = False
    try:
        engine.connect().close()
        is_reached = True
        yield engine
    except DBAPIError as error:
        kind = click.ClickException if is_reached and not error.connection_invalidated else Unreachable
        raise kind(
            f"the catalog cannot be used: {error.orig}\nIt is {engine.url.render_as_string()}; is CATALOG_URL that of the service, and has"
            " `flask db upgrade` been run?"
        ) from error
    finally:
        engine.dispose()


@contextmanager
def opened_target(settings: Settings) -> Iterator[Target]:
    """Open the target for a command."""
    target = open_target(settings.target_url)
    try:
        yield target
    except TargetUnavailable as error:
        raise Unreachable(f"the target cannot be reached: {error}") from error
    except SpoolFull as error:
        raise click.ClickException(str(error)) from error
    except target.errors as error:
        raise Unreachable(f"the target failed: {error}") from error
    finally:
        target.close()
