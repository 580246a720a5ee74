"""Make the catalog.

Revision ID: 0001
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

SCHEMA = "lading"  # on SQLite, which has no schemas, the connection leaves it out
INSTANT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Make every table, those that others refer to first."""
    _keys_and_markers()
    _controls_and_files()
    _batches()
    _runs()
    _queue()


def _keys_and_markers() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("secret_digest", sa.String, nullable=False),
        sa.Column("permissions", sa.JSON, nullable=False),
        sa.Column("limits", sa.JSON, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("expires_at", INSTANT),
        sa.Column("revoked_at", INSTANT),
        sa.Column("last_used_at", INSTANT),
        sa.PrimaryKeyConstraint("id"),
        schema=SCHEMA,
    )
    op.create_table(
        "markers",
        sa.Column("part", sa.String, nullable=False),
        sa.Column("value", sa.String, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("part"),
        schema=SCHEMA,
    )
    op.create_table(
        "idempotency",
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("idem_key", sa.String, nullable=False),
        sa.Column("fingerprint", sa.String, nullable=False),
        sa.Column("ticket", sa.String, nullable=False),
        sa.Column("started_at", INSTANT, nullable=False),
        sa.Column("status", sa.Integer),
        sa.Column("headers", sa.JSON),
        sa.Column("body", sa.LargeBinary),
        sa.PrimaryKeyConstraint("key_id", "idem_key"),
        schema=SCHEMA,
    )
    op.create_index("ix_idempotency_started_at", "idempotency", ["started_at"], schema=SCHEMA)


def _controls_and_files() -> None:
    op.create_table(
        "controls",
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("comment", sa.String, nullable=False),
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("tables", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("digest"),
        schema=SCHEMA,
    )
    op.create_table(
        "control_names",
        sa.Column("name", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("moved_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["lading.controls.digest"]),
        sa.PrimaryKeyConstraint("name"),
        schema=SCHEMA,
    )
    op.create_index("ix_control_names_digest", "control_names", ["digest"], schema=SCHEMA)
    op.create_table(
        "files",
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.PrimaryKeyConstraint("digest"),
        schema=SCHEMA,
    )
    op.create_table(
        "uploads",
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["digest"], ["lading.files.digest"]),
        sa.PrimaryKeyConstraint("digest", "key_id", "name"),
        schema=SCHEMA,
    )


def _batches() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("control", sa.String, nullable=False),
        sa.Column("comment", sa.String, nullable=False),
        sa.Column("file_name", sa.String, nullable=False),
        sa.Column("creation_path", sa.String, nullable=False),
        sa.Column("addresses", sa.JSON, nullable=False),
        sa.Column("key_id", sa.String, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("run", sa.Integer, nullable=False),
        sa.Column("place", sa.BigInteger),
        sa.Column("start_at", INSTANT),
        sa.Column("fence", sa.BigInteger, nullable=False),
        sa.Column("worker", sa.String),
        sa.Column("lease_until", INSTANT),
        sa.Column("is_cancel_wanted", sa.Boolean, nullable=False),
        sa.ForeignKeyConstraint(["control"], ["lading.controls.digest"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("place"),
        schema=SCHEMA,
    )
    op.create_index("ix_batches_state_place", "batches", ["state", "place"], schema=SCHEMA)
    op.create_index("ix_batches_created_at", "batches", ["created_at", "id"], schema=SCHEMA)
    op.create_index("ix_batches_key_id_created_at", "batches", ["key_id", "created_at", "id"], schema=SCHEMA)
    op.create_table(
        "batch_files",
        sa.Column("batch_id", sa.BigInteger, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("created_at", INSTANT, nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["lading.batches.id"]),
        sa.ForeignKeyConstraint(["digest"], ["lading.files.digest"]),
        sa.PrimaryKeyConstraint("batch_id", "name"),
        schema=SCHEMA,
    )
    op.create_index("ix_batch_files_digest", "batch_files", ["digest"], schema=SCHEMA)
    op.create_table(
        "control_pins",
        sa.Column("batch_id", sa.BigInteger, nullable=False),
        sa.Column("name", sa.String, nullable=False),
        sa.Column("digest", sa.String, nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["lading.batches.id"]),
        sa.ForeignKeyConstraint(["digest"], ["lading.controls.digest"]),
        sa.PrimaryKeyConstraint("batch_id", "name"),
        schema=SCHEMA,
    )


def _runs() -> None:
    op.create_table(
        "runs",
        sa.Column("batch_id", sa.BigInteger, nullable=False),
        sa.Column("number", sa.Integer, nullable=False),
        sa.Column("mode", sa.String, nullable=False),
        sa.Column("execution", sa.String, nullable=False),
        sa.Column("is_ordered", sa.Boolean, nullable=False),
        sa.Column("has_event_handlers", sa.Boolean, nullable=False),
        sa.Column("start_at", INSTANT),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("status_msg", sa.String, nullable=False),
        sa.Column("code", sa.String, nullable=False),
        sa.Column("input", sa.BigInteger, nullable=False),
        sa.Column("created", sa.BigInteger, nullable=False),
        sa.Column("updated", sa.BigInteger, nullable=False),
        sa.Column("deleted", sa.BigInteger, nullable=False),
        sa.Column("skipped", sa.BigInteger, nullable=False),
        sa.Column("errors", sa.BigInteger, nullable=False),
        sa.Column("unprocessed", sa.BigInteger, nullable=False),
        sa.Column("progress", sa.Float, nullable=False),
        sa.Column("results_digest", sa.String),
        sa.Column("results_size", sa.BigInteger),
        sa.Column("scheduled_at", INSTANT, nullable=False),
        sa.Column("started_at", INSTANT),
        sa.Column("completed_at", INSTANT),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["lading.batches.id"]),
        sa.PrimaryKeyConstraint("batch_id", "number"),
        schema=SCHEMA,
    )


def _queue() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(sa.schema.CreateSequence(sa.Sequence("queue_place", schema=SCHEMA)))
    op.create_table(
        "lanes",
        sa.Column("table_schema", sa.String, nullable=False),
        sa.Column("table_name", sa.String, nullable=False),
        sa.Column("batch_id", sa.BigInteger),
        sa.ForeignKeyConstraint(["batch_id"], ["lading.batches.id"]),
        sa.PrimaryKeyConstraint("table_schema", "table_name"),
        schema=SCHEMA,
    )
    op.create_index("ix_lanes_batch_id", "lanes", ["batch_id"], schema=SCHEMA)
    op.create_table(
        "wants",
        sa.Column("place", sa.BigInteger, autoincrement=False, nullable=False),
        sa.Column("table_schema", sa.String, nullable=False),
        sa.Column("table_name", sa.String, nullable=False),
        sa.Column("start_at", INSTANT),
        sa.ForeignKeyConstraint(["table_schema", "table_name"], ["lading.lanes.table_schema", "lading.lanes.table_name"]),
        sa.PrimaryKeyConstraint("place", "table_schema", "table_name"),
        schema=SCHEMA,
    )
    op.create_index("ix_wants_lane_place", "wants", ["table_schema", "table_name", "place"], schema=SCHEMA)
