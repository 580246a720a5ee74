"""Alembic's entry point: runs the migrations on the connection, and in the transaction, of catalog/migrate.py."""

from alembic import context

from catalog.database import SCHEMA
from catalog.migrate import VERSION_TABLE
from catalog.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    version_table_schema=SCHEMA if connection.dialect.name == "postgresql" else None,
)
with context.begin_transaction():
    context.run_migrations()
