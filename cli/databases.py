"""`flask db`: our own tables."""

from __future__ import annotations

import click
from sqlalchemy.exc import DBAPIError, OperationalError

from cli.base import Group, Unreachable, opened_target
from settings import Settings


def group(settings: Settings) -> click.Group:
    """Return `flask db`."""
    made = Group("db", help="Make and upgrade Lading's own tables.")

    @made.command("upgrade")
    def upgrade() -> None:
        """Bring the catalog, and the ledger in the target, to this version; make them where there are none."""
        make(settings)

    return made


def make(settings: Settings) -> None:
    """Do that."""
    try:
        # Alembic is imported here, for nobody but this command: it would take 10 MiB of every web process.
        from catalog import migrate

        migrate.upgrade(settings.catalog_url)
    except OperationalError as error:
        raise Unreachable(f"the catalog could not be upgraded: {error.orig}") from error
    except DBAPIError as error:
        raise click.ClickException(f"the catalog could not be upgraded: {error.orig}") from error
    with opened_target(settings) as target:
        target.create_ledger()
