"""Files may be known by handles that their clients choose, for a time or in a directory.

Revision ID: 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

SCHEMA = "lading"  # on SQLite, which has no schemas, the connection leaves it out
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "handles",
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("handle", sa.String, nullable=False),
        sa.Column("directory", sa.String),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT),
        sa.PrimaryKeyConstraint("key_id", "handle"),
        schema=SCHEMA,
    )
    op.create_index("ux_handles_directory_name", "handles", ["key_id", "directory", "name"], unique=True, schema=SCHEMA)
    op.create_index("ix_handles_digest", "handles", ["digest"], schema=SCHEMA)
    op.create_index("ix_handles_expires_at", "handles", ["expires_at"], schema=SCHEMA)
