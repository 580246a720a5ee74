"""Note when a file was last used instead of when it first came, and find results by their digest.

Revision ID: 0002
"""

from alembic import op

revision = "0002"
down_revision = "0001"

SCHEMA = "lading"  # on SQLite, which has no schemas, the connection leaves it out


def upgrade() -> None:
    """Rename a column, as both databases do without copying the table, and add an index."""
    prefix = f"{SCHEMA}." if op.get_bind().dialect.name == "postgresql" else ""
    op.execute(f"ALTER TABLE {prefix}files RENAME COLUMN created_at TO used_at")
    op.create_index("ix_runs_results_digest", "runs", ["results_digest"], schema=SCHEMA)
