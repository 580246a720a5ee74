"""Keep every comment that a control file came with, and every control file that a name has pointed to.

Revision ID: 0004
"""

import hashlib

import sqlalchemy as sa
from alembic import op

from catalog.database import UtcDateTime

revision = "0004"
down_revision = "0003"

SCHEMA = "lading"


def upgrade() -> None:
    """Make the two tables, and fill them with what is known so far."""
    op.create_table(
        "control_comments",
        sa.Column("digest", sa.String, sa.ForeignKey(f"{SCHEMA}.controls.digest"), primary_key=True),
        sa.Column("comment_digest", sa.String, primary_key=True),
        sa.Column("comment", sa.String, nullable=False),
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("created_at", UtcDateTime, nullable=False),
        schema=SCHEMA,
    )
    op.create_table(
        "control_moves",
        sa.Column("name", sa.String, primary_key=True),
        sa.Column("digest", sa.String, sa.ForeignKey(f"{SCHEMA}.controls.digest"), primary_key=True),
        sa.Column("moved_at", UtcDateTime, nullable=False),
        schema=SCHEMA,
    )
    connection = op.get_bind()
    names = _table("control_names", "name", "digest", "moved_at")
    moves = _table("control_moves", "name", "digest", "moved_at")
    connection.execute(moves.insert().from_select(["name", "digest", "moved_at"], sa.select(names)))
    known = _table("controls", "digest", "comment", "key_id", "created_at")
    comments = _table("control_comments", "digest", "comment_digest", "comment", "key_id", "created_at")
    for row in connection.execute(sa.select(known)).mappings().all():
        entry = {**row, "comment_digest": hashlib.sha256(row["comment"].encode()).hexdigest()}
        connection.execute(comments.insert(), entry)


def _table(name: str, *columns: str) -> sa.TableClause:
    schema = SCHEMA if op.get_bind().dialect.name == "postgresql" else None  # of statements the connection does not leave it out
    return sa.table(name, *(sa.column(c, UtcDateTime if c.endswith("_at") else sa.String) for c in columns), schema=schema)
