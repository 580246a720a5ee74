"""The target's tables as control files were last checked against them.

Revision ID: 0012
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    """Add the table."""
    op.create_table(
        "control_shapes",
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("shape", sa.JSON, nullable=False),
        sa.Column("checked_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
        sa.ForeignKeyConstraint(["digest"], ["lading.controls.digest"]),
        schema="lading",
    )
