"""The batch that a request with an Idempotency-Key has made.

Revision ID: 0016
"""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Add the column."""
    schema = "lading" if op.get_bind().dialect.name == "postgresql" else None
    op.add_column("idempotency", sa.Column("batch_id", sa.BigInteger), schema=schema)
