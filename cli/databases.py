"""`flask db`: our own tables."""

from __future__ import annotations

import click
from sqlalchemy.exc import DBAPIError, OperationalError

from catalog import restored
from cli.base import Group, Unreachable, json_option, opened_catalog, opened_target, put, say
from settings import Settings


def group(settings: Settings) -> click.Group:
    """Return `flask db`."""
    made = Group("db", help="Make and upgrade Lading's own tables.")

    @made.command("upgrade")
    def upgrade() -> None:
        """Bring the catalog, and the ledger in the target, to this version; make them where there are none."""
        make(settings)

    @made.command("restored")
    @click.option("--yes", "is_sure", is_flag=True, help="Do not ask.")
    @json_option
    def restore(is_sure: bool, is_json: bool) -> None:
        """After an older catalog was brought back beside a newer target: end what waits or runs, and print those batches."""
        if not is_sure:
            click.confirm("All batches that wait or run will have failed. Go on?", abort=True, err=True)
        with opened_catalog(settings) as engine:
            ended = restored.give_up(engine)
        put(is_json, {"batches": ended}, "\n".join(map(str, ended)))
        say(f"{len(ended)} batches have failed, with the code {restored.CODE}.")

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
