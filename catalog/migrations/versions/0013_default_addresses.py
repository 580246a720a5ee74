"""Mail addresses for batches that name none.

Revision ID: 0013
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "default_addresses",
        sa.Column("control", sa.String, nullable=False),
        sa.Column("success", sa.JSON, nullable=False),
        sa.Column("failure", sa.JSON, nullable=False),
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("changed_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("control"),
        schema="lading",
    )
