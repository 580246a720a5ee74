"""People who sign in by an OpenID provider: a key that each has, and whose it is.

Revision ID: 0015
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Add the column and its index."""
    schema = "lading" if op.get_bind().dialect.name == "postgresql" else None
    op.add_column("keys", sa.Column("subject", sa.String), schema=schema)
    op.create_index("ux_keys_subject", "keys", ["subject"], unique=True, schema=schema)
