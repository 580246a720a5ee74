"""The tables of the catalog, as the newest migration leaves them (a test compares the two)."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    String,
    Table,
    UniqueConstraint,
)

from catalog.database import SCHEMA, UtcDateTime

metadata = MetaData(schema=SCHEMA)

keys = Table(
    "keys",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("secret_digest", String, nullable=False),  # SHA-256 of the secret, hex
    Column("permissions", JSON, nullable=False),
    Column("limits", JSON, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),
    Column("revoked_at", UtcDateTime),
    Column("last_used_at", UtcDateTime),
    Column("subject", String),  # of a key that is a person's: who that is (see people.py)
    Index("ux_keys_subject", "subject", unique=True),
)

# Of the pages: who is signed in (or has a code that signs in once), under the digest of a secret that only the browser has.
sessions = Table(
    "sessions",
    metadata,
    Column("digest", String, primary_key=True),
    Column("key_id", String, ForeignKey(keys.c.id), nullable=False),
    Column("is_code", Boolean, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("used_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Index("ix_sessions_expires_at", "expires_at"),
)

controls = Table(
    "controls",
    metadata,
    Column("digest", String, primary_key=True),
    Column("comment", String, nullable=False),
    Column("key_id", String, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("tables", JSON, nullable=False),  # [[schema or null, table], ...] that its entities write
)

control_names = Table(
    "control_names",
    metadata,
    Column("name", String, primary_key=True),
    Column("digest", String, ForeignKey(controls.c.digest), nullable=False),
    Column("key_id", String, nullable=False),
    Column("moved_at", UtcDateTime, nullable=False),
    Index("ix_control_names_digest", "digest"),
)

# Every comment that a control file was uploaded with: one file may serve several purposes.
control_comments = Table(
    "control_comments",
    metadata,
    Column("digest", String, ForeignKey(controls.c.digest), primary_key=True),
    Column("comment_digest", String, primary_key=True),  # SHA-256, since a comment may be too long for an index
    Column("comment", String, nullable=False),
    Column("key_id", String, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

# Every control file that a name has ever pointed to: by this a batch is known as the name's after the name has moved on.
control_moves = Table(
    "control_moves",
    metadata,
    Column("name", String, primary_key=True),
    Column("digest", String, ForeignKey(controls.c.digest), primary_key=True),
    Column("moved_at", UtcDateTime, nullable=False),  # the first time
)

# The target's tables as a control file was last checked against them: see engine.control.drift. Apart, since it may be long.
control_shapes = Table(
    "control_shapes",
    metadata,
    Column("digest", String, ForeignKey(controls.c.digest), primary_key=True),
    Column("shape", JSON, nullable=False),
    Column("checked_at", UtcDateTime, nullable=False),
)

files = Table(
    "files",
    metadata,
    Column("digest", String, primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("used_at", UtcDateTime, nullable=False),  # last sent, or given to a batch
)

# Who uploaded a file, and by which names: what a key may know of it. One without any is no longer in the spool.
uploads = Table(
    "uploads",
    metadata,
    Column("digest", String, ForeignKey(files.c.digest), primary_key=True),
    Column("key_id", String, primary_key=True),
    Column("name", String, primary_key=True),
    Column("created_at", UtcDateTime, nullable=False),
)

# Files that a client knows by a handle of its own choosing: for a time, or kept in a directory. Of these `uploads` tells nothing.
handles = Table(
    "handles",
    metadata,
    Column("key_id", String, primary_key=True),
    Column("handle", String, primary_key=True),  # a UUID
    Column("directory", String),  # null: none, so that it is kept for a time only
    Column("name", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime),  # null: kept until it is given up
    Index("ux_handles_directory_name", "key_id", "directory", "name", unique=True),  # names in no directory may be alike
    Index("ix_handles_digest", "digest"),
    Index("ix_handles_expires_at", "expires_at"),
)

queue_place = Sequence(
    "queue_place", metadata=metadata
)  # PostgreSQL only: SQLite's writers take turns, so the highest place plus one will do

batches = Table(
    "batches",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("control", String, ForeignKey(controls.c.digest), nullable=False),
    Column("comment", String, nullable=False),
    Column("file_name", String, nullable=False),
    Column("creation_path", String, nullable=False),
    Column("addresses", JSON, nullable=False),
    Column("key_id", String, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("state", String, nullable=False),
    Column("run", Integer, nullable=False),  # number of the last run, 0 before the first
    Column("place", BigInteger, unique=True),  # in the order of scheduling
    Column("start_at", UtcDateTime),
    Column("fence", BigInteger, nullable=False),
    Column("worker", String),
    Column("lease_until", UtcDateTime),
    Column("is_cancel_wanted", Boolean, nullable=False),
    Column("schema_id", BigInteger),  # the import schema that it was made with, which may be gone by now
    Index("ix_batches_state_place", "state", "place"),
    Index("ix_batches_created_at", "created_at", "id"),
    Index("ix_batches_state_created_at", "state", "created_at", "id"),
    Index("ix_batches_key_id_created_at", "key_id", "created_at", "id"),
)

# Control files with a number and an owner. One key has each name once.
import_schemas = Table(
    "import_schemas",
    metadata,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    Column("name", String, nullable=False),
    Column("description", String, nullable=False),
    Column("restriction", String, nullable=False),
    Column("digest", String, ForeignKey(controls.c.digest), nullable=False),
    Column("key_id", String, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("modified_at", UtcDateTime, nullable=False),
    UniqueConstraint("name", "key_id"),
)

batch_files = Table(
    "batch_files",
    metadata,
    Column("batch_id", BigInteger, ForeignKey(batches.c.id), primary_key=True),
    Column("name", String, primary_key=True),
    Column("digest", String, ForeignKey(files.c.digest), nullable=False),
    Column("position", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("format", String),  # how it is read, where not as its control file says
    Column("separator", String),
    Index("ix_batch_files_digest", "digest"),
)

control_pins = Table(
    "control_pins",
    metadata,
    Column("batch_id", BigInteger, ForeignKey(batches.c.id), primary_key=True),
    Column("name", String, primary_key=True),
    Column("digest", String, ForeignKey(controls.c.digest), nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("batch_id", BigInteger, ForeignKey(batches.c.id), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("mode", String, nullable=False),
    Column("execution", String, nullable=False),
    Column("is_ordered", Boolean, nullable=False),
    Column("has_event_handlers", Boolean, nullable=False),
    Column("start_at", UtcDateTime),
    Column("state", String, nullable=False),
    Column("status_msg", String, nullable=False),
    Column("code", String, nullable=False),
    Column("input", BigInteger, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Column("deleted", BigInteger, nullable=False),
    Column("skipped", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
    Column("unprocessed", BigInteger, nullable=False),
    Column("progress", Float, nullable=False),
    Column("results_digest", String),  # null where the size is known: they are no longer kept
    Column("results_size", BigInteger),
    Column("scheduled_at", UtcDateTime, nullable=False),
    Column("started_at", UtcDateTime),
    Column("completed_at", UtcDateTime),
    Column("attempts", Integer, nullable=False),
    Column("takeovers", Integer, nullable=False, server_default="0"),  # how often its lease ran out
    Index("ix_runs_results_digest", "results_digest"),
)

# How far a run was at each sign of life of its worker, for the chart of it.
run_samples = Table(
    "run_samples",
    metadata,
    Column("batch_id", BigInteger, ForeignKey(batches.c.id), primary_key=True),
    Column("run", Integer, primary_key=True),
    Column("at", UtcDateTime, primary_key=True),
    Column("input", BigInteger, nullable=False),
    Column("errors", BigInteger, nullable=False),
)

# One row for every table that was ever to be written. The primary key is what forbids two holders of one lane.
lanes = Table(
    "lanes",
    metadata,
    Column("table_schema", String, primary_key=True),  # "" where the target has no schemas
    Column("table_name", String, primary_key=True),
    Column("batch_id", BigInteger, ForeignKey(batches.c.id)),  # the running batch that holds it, or null
    Index("ix_lanes_batch_id", "batch_id"),
)

# The lanes that *scheduled* batches wait for. Rows go when the batch is claimed, so the table stays as short as the queue.
wants = Table(
    "wants",
    metadata,
    Column("place", BigInteger, primary_key=True, autoincrement=False),
    Column("table_schema", String, primary_key=True),
    Column("table_name", String, primary_key=True),
    Column("start_at", UtcDateTime),
    ForeignKeyConstraint(["table_schema", "table_name"], [lanes.c.table_schema, lanes.c.table_name]),
    Index("ix_wants_lane_place", "table_schema", "table_name", "place"),
)

idempotency = Table(
    "idempotency",
    metadata,
    Column("key_id", String, primary_key=True),
    Column("idem_key", String, primary_key=True),
    Column("fingerprint", String, nullable=False),
    Column("ticket", String, nullable=False),  # tells the request that holds the entry from one that lost it by being too slow
    Column("started_at", UtcDateTime, nullable=False),
    Column("status", Integer),  # null while the first request is in flight
    Column("headers", JSON),
    Column("body", LargeBinary),
    Column("batch_id", BigInteger),  # what the request has made, if it has made a batch; it may have broken off thereafter
    Index("ix_idempotency_started_at", "started_at"),
)

# What the figures of /metrics must go on counting of batches that were deleted.
tallies = Table(
    "tallies",
    metadata,
    Column("name", String, primary_key=True),
    Column("labels", String, primary_key=True),  # a JSON object
    Column("value", Float, nullable=False),
)

markers = Table(
    "markers",
    metadata,
    Column("part", String, primary_key=True),
    Column("value", String, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
)

# Batches whose end somebody is to be told, until the deliveries of that are made: written with the end itself, in one transaction.
# Who is told by mail of batches that name nobody themselves; the empty name stands for all control files that have no row.
default_addresses = Table(
    "default_addresses",
    metadata,
    Column("control", String, primary_key=True),
    Column("success", JSON, nullable=False),
    Column("failure", JSON, nullable=False),
    Column("key_id", String, nullable=False),  # who said so last
    Column("changed_at", UtcDateTime, nullable=False),
)

notices = Table(
    "notices",
    metadata,
    Column("batch_id", BigInteger, ForeignKey(batches.c.id), primary_key=True),
    Column("run", Integer, primary_key=True),
    Column("created_at", UtcDateTime, nullable=False),
)

webhooks = Table(
    "webhooks",
    metadata,
    Column("id", String, primary_key=True),
    Column("key_id", String, nullable=False),  # who made it: it hears only of batches that this key may see
    Column("url", String, nullable=False),
    Column("comment", String, nullable=False),
    Column("events", JSON, nullable=False),
    Column("controls", JSON, nullable=False),  # digests and names of the only control files that matter; []: all do
    Column("entities", JSON, nullable=False),  # the only ones whose records matter; []: all do
    Column("secret", String, nullable=False),  # as it is: what signs must be known
    Column("old_secret", String),  # signs too, until its time is over
    Column("old_secret_until", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("is_enabled", Boolean, nullable=False),
    Column("status_msg", String, nullable=False),  # why it is not
    Column("failing_since", UtcDateTime),  # the first failure after the last success
)

# What is to be told to whom: one row for each mail and each request to a webhook.
deliveries = Table(
    "deliveries",
    metadata,
    Column("place", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("id", String, nullable=False, unique=True),  # what the receiver tells repeated ones by
    Column("kind", String, nullable=False),
    Column("recipient", String, nullable=False),  # a mail address, or a webhook's id
    Column("event", String, nullable=False),
    Column("batch_id", BigInteger, ForeignKey(batches.c.id), nullable=False),
    Column("run", Integer, nullable=False),
    Column("body", String),  # of a request; a mail is written when it is sent
    Column("events", Integer, nullable=False),  # how many events of records the body holds
    Column("is_ordered", Boolean, nullable=False),  # waits for the earlier ordered ones to this recipient
    Column("state", String, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_at", UtcDateTime, nullable=False),  # of the next try; while one is under way, when it is given up for lost
    Column("status", Integer),  # what the receiver answered last: HTTP's or SMTP's number
    Column("message", String, nullable=False),  # what went wrong last
    Column("created_at", UtcDateTime, nullable=False),
    Column("done_at", UtcDateTime),
    Index("ix_deliveries_state_kind_next_at", "state", "kind", "next_at"),
    Index("ix_deliveries_recipient_state_place", "recipient", "state", "place"),
    Index("ix_deliveries_batch_id", "batch_id"),
)
