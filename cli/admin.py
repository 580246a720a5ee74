"""`flask admin`: the way into the pages."""

from __future__ import annotations

import click

import clock
from catalog import keys, sessions
from cli.base import Group, opened_catalog
from settings import Settings


def group(settings: Settings) -> click.Group:
    """Return `flask admin`."""
    made = Group("admin", help="Look after the service by its pages.")

    @made.command("link")
    @click.option("--key", "key_id", metavar="ID", help="Sign in as this API key, instead of with a new one that has all permissions.")
    def link(key_id: str | None) -> None:
        """Print an address that signs in to the pages: once, within 15 minutes. The session lasts 12 hours at most."""
        with opened_catalog(settings) as engine:
            if key_id is None:
                # Nobody learns its secret: it is there to be listed, and revoked, while the session lasts.
                token = keys.create(engine, "admin link", ["admin"], expires_at=clock.now() + sessions.CODE_LASTS + sessions.LASTS)
                key_id = token.split("_")[1]
            elif not any(key.id == key_id and key.is_valid(clock.now()) for key in keys.all_keys(engine)):
                raise click.ClickException(f"there is no valid key {key_id}")
            address = settings.public_url or f"http://127.0.0.1:{settings.port}"
            click.echo(f"{address}/sign-in?code={sessions.make_code(engine, key_id)}")

    return made
