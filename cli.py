"""The commands: `flask key`, `flask db`, `flask control`. docs/reference/commands.md describes them."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import click
from flask import Flask
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

import catalog
import clock
from catalog import keys, sessions
from engine.control import compile as compile_control
from engine.target import open_target
from errors import ControlFileInvalid, TargetUnavailable
from schemas import control as control_files
from settings import Settings


def register(app: Flask, settings: Settings) -> None:
    """Give the application its commands."""
    for group in groups(settings):
        app.cli.add_command(group)


def groups(settings: Settings) -> list[click.Group]:
    """Return the groups of commands, which use these settings."""
    return [_key_group(settings), _admin_group(settings), _db_group(settings), _control_group(settings)]


@contextmanager
def _catalog(settings: Settings) -> Iterator[Engine]:
    engine = catalog.connect(settings.catalog_url)
    try:
        yield engine
    except DBAPIError as error:
        raise click.ClickException(f"the catalog cannot be used (has `flask db upgrade` been run?): {error.orig}") from error
    finally:
        engine.dispose()


class Instant(click.ParamType[datetime]):
    """A date or a time as ISO 8601 and RFC 3339 write it; UTC unless it says otherwise."""

    name = "time"

    def convert(self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the aware time; a date is its first moment."""
        if isinstance(value, datetime):
            return value
        try:
            instant = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is not a time such as 2027-01-31 or 2027-01-31T12:00:00Z", param, ctx)
        return instant if instant.tzinfo else instant.replace(tzinfo=UTC)


# Keys --------------------------------------------------------------------------------------------------------------------
def _key_group(settings: Settings) -> click.Group:
    group = click.Group("key", help="Make, list and revoke API keys.")

    @group.command("create")
    @click.option("--name", required=True, help="Whose key it is, or what it is for.")
    @click.option(
        "--permission", "permissions", multiple=True, required=True, type=click.Choice(keys.PERMISSIONS), help="May be given many times."
    )
    @click.option("--expires", type=Instant(), help="A date or time, UTC unless it says otherwise.")
    @click.option("--control", "controls", multiple=True, help="Limit the key to this named control file. May be given many times.")
    def create(name: str, permissions: Sequence[str], expires: datetime | None, controls: Sequence[str]) -> None:
        """Make an API key and print it. It is shown only this once."""
        if expires is not None and expires <= clock.now():
            raise click.BadParameter("this time is past", param_hint="--expires")
        limits = {"controls": sorted(set(controls))} if controls else {}
        with _catalog(settings) as engine:
            click.echo(keys.create(engine, name, permissions, expires_at=expires, limits=limits))

    @group.command("list")
    @click.option("--json", "is_json", is_flag=True, help="Print JSON instead of a table.")
    def list_(is_json: bool) -> None:
        """Print all API keys, without their secrets."""
        with _catalog(settings) as engine:
            rows = [_key_row(key) for key in keys.all_keys(engine)]
        click.echo(json.dumps(rows, indent=2) if is_json else _table(rows))

    @group.command("revoke")
    @click.argument("key_id", metavar="ID")
    def revoke(key_id: str) -> None:
        """Make the API key with this id fail from now on."""
        with _catalog(settings) as engine:
            if not keys.revoke(engine, key_id):
                raise click.ClickException(f"there is no key {key_id} that could be revoked")

    return group


def _admin_group(settings: Settings) -> click.Group:
    group = click.Group("admin", help="Look after the service by its pages.")

    @group.command("link")
    @click.option("--key", "key_id", metavar="ID", help="Sign in as this API key, instead of with a new one that has all permissions.")
    def link(key_id: str | None) -> None:
        """Print an address that signs in to the pages: once, within 15 minutes. The session lasts 12 hours at most."""
        with _catalog(settings) as engine:
            if key_id is None:
                # Nobody learns its secret: it is there to be listed, and revoked, while the session lasts.
                token = keys.create(engine, "admin link", ["admin"], expires_at=clock.now() + sessions.CODE_LASTS + sessions.LASTS)
                key_id = token.split("_")[1]
            elif not any(key.id == key_id and key.is_valid(clock.now()) for key in keys.all_keys(engine)):
                raise click.ClickException(f"there is no valid key {key_id}")
            address = settings.public_url or f"http://127.0.0.1:{settings.port}"
            click.echo(f"{address}/sign-in?code={sessions.make_code(engine, key_id)}")

    return group


_KEY_COLUMNS = ("id", "name", "state", "permissions", "controls", "created_at", "expires_at", "last_used_at")


def _key_row(key: keys.Key) -> dict[str, object]:
    state = "valid" if key.is_valid(clock.now()) else "revoked" if key.revoked_at else "expired"
    controls = None if key.control_names is None else sorted(key.control_names)
    times = {c: _text(getattr(key, c)) for c in ("created_at", "expires_at", "last_used_at")}
    return {"id": key.id, "name": key.name, "state": state, "permissions": sorted(key.permissions), "controls": controls, **times}


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else instant.strftime("%Y-%m-%dT%H:%M:%SZ")


def _table(rows: Sequence[dict[str, object]]) -> str:
    """Lay rows out in columns as wide as what they hold."""
    lines = [[column.upper() for column in _KEY_COLUMNS], *([_cell(row[column]) for column in _KEY_COLUMNS] for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(_KEY_COLUMNS))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines)


def _cell(value: object) -> str:
    if value is None:
        return "-"
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    # A name is free text: what is not printable in it must not move the terminal's cursor.
    return "".join(c if c.isprintable() else "?" for c in text)


# The databases -----------------------------------------------------------------------------------------------------------
def _db_group(settings: Settings) -> click.Group:
    group = click.Group("db", help="Make and upgrade Lading's own tables.")

    @group.command("upgrade")
    def upgrade() -> None:
        """Bring the catalog, and the ledger in the target, to this version; make them where there are none."""
        try:
            # Alembic is imported here, for nobody but this command: it would take 10 MiB of every web process.
            from catalog import migrate

            migrate.upgrade(settings.catalog_url)
        except DBAPIError as error:
            raise click.ClickException(f"the catalog could not be upgraded: {error.orig}") from error
        target = open_target(settings.target_url)
        try:
            target.create_ledger()
        except TargetUnavailable as error:
            raise click.ClickException(f"the ledger could not be made in the target: {error}") from error
        finally:
            target.close()

    return group


# Control files -----------------------------------------------------------------------------------------------------------
def _control_group(settings: Settings) -> click.Group:
    group = click.Group("control", help="Work with control files.")

    @group.command("check")
    @click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
    def check(file: Path) -> None:
        """Check a control file against the target, without storing it. Prints every fault with its line."""
        target = open_target(settings.target_url)
        try:
            document = control_files.parse(file.read_bytes(), settings.max_control_bytes)
            plan = compile_control(document, target.tables(), target.dialect)
        except ControlFileInvalid as invalid:
            click.echo("\n".join(map(str, invalid.problems)))
            raise click.exceptions.Exit(1) from invalid
        except TargetUnavailable as error:
            raise click.ClickException(str(error)) from error
        finally:
            target.close()
        tables = ", ".join(name if schema is None else f"{schema}.{name}" for schema, name in plan.tables)
        click.echo(f"no faults; it writes to: {tables}")

    return group
