"""Ends of batches that somebody is to be told, webhooks, and what is delivered to whom.

Revision ID: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

SCHEMA = "lading"  # on SQLite, which has no schemas, the connection leaves it out
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make the three tables; of batches that have ended by now nobody is told."""
    op.create_table(
        "notices",
        sa.Column("batch_id", sa.BigInteger, sa.ForeignKey(f"{SCHEMA}.batches.id"), nullable=False),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "run"),
        schema=SCHEMA,
    )
    op.create_table(
        "webhooks",
        sa.Column("id", sa.String, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("key_id", "url", "comment")),
        *(sa.Column(name, sa.JSON, nullable=False) for name in ("events", "controls", "entities")),
        sa.Column("secret", sa.String, nullable=False),
        sa.Column("old_secret", sa.String),
        sa.Column("old_secret_until", INSTANT),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("is_enabled", sa.Boolean, nullable=False),
        sa.Column("status_msg", sa.String, nullable=False),
        sa.Column("failing_since", INSTANT),
        sa.PrimaryKeyConstraint("id"),
        schema=SCHEMA,
    )
    _deliveries()


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("place", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("id", sa.String, nullable=False, unique=True),
        *(sa.Column(name, sa.String, nullable=False) for name in ("kind", "recipient", "event")),
        sa.Column("batch_id", sa.BigInteger, sa.ForeignKey(f"{SCHEMA}.batches.id"), nullable=False),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("body", sa.String),
        sa.Column("events", sa.Integer, nullable=False),
        sa.Column("is_ordered", sa.Boolean, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("next_at", INSTANT, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("message", sa.String, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("done_at", INSTANT),
        schema=SCHEMA,
    )
    op.create_index("ix_deliveries_state_kind_next_at", "deliveries", ["state", "kind", "next_at"], schema=SCHEMA)
    op.create_index("ix_deliveries_recipient_state_place", "deliveries", ["recipient", "state", "place"], schema=SCHEMA)
    op.create_index("ix_deliveries_batch_id", "deliveries", ["batch_id"], schema=SCHEMA)
