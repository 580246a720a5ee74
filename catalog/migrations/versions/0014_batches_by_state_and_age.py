"""Batches of one state, newest first, without sorting all of them.

Revision ID: 0014
"""

from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Add the index."""
    schema = "lading" if op.get_bind().dialect.name == "postgresql" else None
    op.create_index("ix_batches_state_created_at", "batches", ["state", "created_at", "id"], schema=schema)
