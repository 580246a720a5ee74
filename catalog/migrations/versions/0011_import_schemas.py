"""Import schemas: control files with a number, an owner and a restriction; and which of them a batch was made with.

Revision ID: 0011
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Add the table and the column."""
    op.create_table(
        "import_schemas",
        sa.Column("id", sa.BigInteger, nullable=False),
        *(sa.Column(name, sa.String, nullable=False) for name in ("name", "description", "restriction", "digest", "key_id")),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("modified_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("name", "key_id"),
        sa.ForeignKeyConstraint(["digest"], ["lading.controls.digest"]),
        schema="lading",
    )
    schema = "lading" if op.get_bind().dialect.name == "postgresql" else None
    op.add_column("batches", sa.Column("schema_id", sa.BigInteger), schema=schema)
