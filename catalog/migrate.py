"""Making and upgrading the catalog's tables, by Alembic run from here: no ini file, a version table of our own."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, func, inspect, select
from sqlalchemy.schema import CreateSchema

from catalog.database import SCHEMA, connect, reading, writing

VERSION_TABLE = "catalog_version"
_FOLDER = Path(__file__).parent / "migrations"
_UPGRADE_LOCK = 0x1AD1_0002  # the advisory lock that makes upgrades take turns


def upgrade(url: str, version: str = "head") -> None:
    """Bring the catalog at `url` to the newest version (or to `version`); make it where there is none.

    Safe to repeat, and to run twice at once. The upgrade is one transaction: it is done in full or not at all.
    """
    engine = connect(url)
    if engine.dialect.name == "sqlite" and engine.url.database:
        Path(engine.url.database).parent.mkdir(parents=True, exist_ok=True)
    try:
        with writing(engine) as connection:
            if connection.dialect.name == "postgresql":
                _prepare_postgresql(connection)
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, version)
    finally:
        engine.dispose()


def versions(engine: Engine) -> tuple[str | None, str]:
    """Return the version of the catalog's tables, None where there are none, and the one that this code wants."""
    with reading(engine) as connection:
        schema = SCHEMA if connection.dialect.name == "postgresql" else None
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE, "version_table_schema": schema})
        return context.get_current_revision(), str(ScriptDirectory.from_config(_config()).get_current_head())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config


def _prepare_postgresql(connection: Connection) -> None:
    connection.execute(select(func.pg_advisory_xact_lock(_UPGRADE_LOCK)))
    # Looked up first: CREATE SCHEMA IF NOT EXISTS wants a right that we do not need where an administrator has made it.
    if not inspect(connection).has_schema(SCHEMA):
        connection.execute(CreateSchema(SCHEMA))
