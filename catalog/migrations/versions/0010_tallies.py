"""Figures of batches that are no longer kept.

Revision ID: 0010
"""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "tallies",
        sa.Column("name", sa.String, nullable=False),
        sa.Column("labels", sa.String, nullable=False),
        sa.Column("value", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("name", "labels"),
        schema="lading",
    )
