"""`flask key`: API keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click

import clock
from catalog import keys
from cli.base import Group, json_option, opened_catalog, opened_target, put
from engine.allowed import meant
from settings import Settings


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


def group(settings: Settings) -> click.Group:
    """Return `flask key`."""
    made = Group("key", help="Make, list and revoke API keys.")

    @made.command("create")
    @click.option("--name", required=True, help="Whose key it is, or what it is for.")
    @click.option(
        "--permission", "permissions", multiple=True, required=True, type=click.Choice(keys.PERMISSIONS), help="May be given many times."
    )
    @click.option("--expires", type=Instant(), help="A date or time, UTC unless it says otherwise.")
    @click.option("--control", "controls", multiple=True, help="Limit the key to this named control file. May be given many times.")
    @click.option("--table", "tables", multiple=True, help="Limit its imports to this table of the target. May be given many times.")
    @click.option(
        "--action", "actions", multiple=True, type=click.Choice(keys.ACTIONS, case_sensitive=False),
        help="Limit its imports to this action. May be given many times.",
    )  # fmt: skip
    @click.option(
        "--network", "networks", multiple=True, help="Let it be used from this network only, such as 10.1.0.0/16. May be given many times."
    )
    @json_option
    def create(name: str, permissions: Sequence[str], expires: datetime | None, is_json: bool, **limits: Sequence[str]) -> None:
        """Make an API key and print it. It is shown only this once."""
        if expires is not None and expires <= clock.now():
            raise click.BadParameter("this time is past", param_hint="--expires")
        made = _limits(settings, **limits)
        with opened_catalog(settings) as engine:
            key = keys.create(engine, name, permissions, expires_at=expires, limits=made)
        put(is_json, {"key": key, "name": name, "permissions": sorted(set(permissions))}, key)

    @made.command("list")
    @json_option
    def list_(is_json: bool) -> None:
        """Print all API keys, without their secrets."""
        with opened_catalog(settings) as engine:
            rows = [_key_row(key) for key in keys.all_keys(engine)]
        put(is_json, rows, _table(rows))

    @made.command("revoke")
    @click.argument("key_id", metavar="ID")
    def revoke(key_id: str) -> None:
        """Make the API key with this id fail from now on."""
        with opened_catalog(settings) as engine:
            if not keys.revoke(engine, key_id):
                raise click.ClickException(f"there is no key {key_id} that could be revoked")

    @made.command("readmit")
    @click.argument("key_id", metavar="ID")
    def readmit(key_id: str) -> None:
        """Let the person whose key was revoked sign in at the provider again. A key with a secret never comes back."""
        with opened_catalog(settings) as engine:
            if not keys.readmit(engine, key_id):
                raise click.ClickException(f"there is no person's key {key_id} that was revoked")

    return made


def _limits(
    settings: Settings, controls: Sequence[str], tables: Sequence[str], actions: Sequence[str], networks: Sequence[str]
) -> dict[str, Any]:
    """Return the limits of a key, the tables by their own names."""
    found = []
    if tables:
        with opened_target(settings) as target:
            known = target.tables()
            try:
                found = [meant(known, table) for table in tables]
            except ValueError as error:
                raise click.BadParameter(str(error), param_hint="--table") from None
    try:
        return keys.limits_of(controls, found, actions, networks)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--network") from None


_KEY_COLUMNS = ("id", "name", "state", "permissions", *keys.LIMITS, "created_at", "expires_at", "last_used_at")


def _key_row(key: keys.Key) -> dict[str, object]:
    state = "valid" if key.is_valid(clock.now()) else "revoked" if key.revoked_at else "expired"
    limits = {name: key.limit_texts.get(name) for name in keys.LIMITS}
    times = {c: _text(getattr(key, c)) for c in ("created_at", "expires_at", "last_used_at")}
    return {"id": key.id, "name": key.name, "state": state, "permissions": sorted(key.permissions), **limits, **times}


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
