"""A whole import in one transaction: a batch with one file, scheduled at once."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

import clock
from catalog import handles
from catalog.batches import insert_batch
from catalog.database import writing
from catalog.files import note_upload
from catalog.idempotency import Held, made_once
from catalog.schedule import schedule_on
from catalog.states import Options, TableKey
from catalog.tables import batch_files


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """What is sent: the file, whose bytes the spool holds by now, and what is said of the batch."""

    control: str  # digest
    key_id: str
    name: str  # by which the control file knows the file
    digest: str
    size: int  # bytes
    uploaded_as: str = ""
    handle: str | None = None  # by which the key knows the file, where it was sent so
    format: str | None = None  # how the file is read, where not as the control file says
    separator: str | None = None
    comment: str = ""
    file_name: str = ""
    creation_path: str = ""
    addresses: Sequence[str] = ()
    schema_id: int | None = None  # the import schema that it is made with


def submit(
    engine: Engine,
    sent: Submission,
    options: Options,
    tables: Collection[TableKey],
    *,
    refuse_if_busy: bool = False,
    held: Held | None = None,
) -> int:
    """Make a batch with its file and put it into the queue; return its id. Once under an Idempotency-Key that is held.

    Refusal: 409 `blocked` where `refuse_if_busy` and another batch has one of the tables, or waits for it; 404 `handle_unknown`
    where the handle's file has just been deleted after its time. Then there is no batch.
    """
    with writing(engine) as connection:

        def make() -> int:
            batch_id = _made(connection, sent)
            schedule_on(connection, batch_id, options, tables, refuse_if_busy=refuse_if_busy)
            return batch_id

        return made_once(connection, held, make)


def _made(connection: Connection, sent: Submission) -> int:
    batch_id = insert_batch(
        connection, control=sent.control, key_id=sent.key_id, comment=sent.comment, file_name=sent.file_name,
        creation_path=sent.creation_path, addresses=sent.addresses, schema_id=sent.schema_id,
    )  # fmt: skip
    if sent.handle is not None:
        handles.hold(connection, sent.key_id, sent.handle, sent.digest)
    note_upload(connection, sent.digest, sent.size, key_id=sent.key_id, name=sent.uploaded_as)
    row = {"batch_id": batch_id, "name": sent.name, "digest": sent.digest, "position": 1, "created_at": clock.now()}
    connection.execute(batch_files.insert(), row | {"format": sent.format, "separator": sent.separator})
    return batch_id
