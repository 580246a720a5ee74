"""Files of a batch may be read otherwise than their control file says.

Revision ID: 0003
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the two columns; what was uploaded before is read as its control file says."""
    # SQLite has no schemas, and a change of a table is not translated as its making is.
    schema = "lading" if op.get_bind().dialect.name == "postgresql" else None
    for name in ("format", "separator"):
        op.add_column("batch_files", sa.Column(name, sa.String), schema=schema)
