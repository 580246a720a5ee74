"""How often a run was taken over from a worker that gave no sign of life any more.

Revision ID: 0008
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the column; workers of the version before leave it at 0."""
    schema = "lading" if op.get_bind().dialect.name == "postgresql" else None
    op.add_column("runs", sa.Column("takeovers", sa.Integer, nullable=False, server_default="0"), schema=schema)
