"""A batch made from another: the same control file and files, ready to be changed or scheduled anew."""

from sqlalchemy import Engine, select

import clock
from catalog import retention
from catalog.batches import insert_batch
from catalog.database import writing
from catalog.keys import Key
from catalog.states import Batch
from catalog.tables import batch_files


def copy(engine: Engine, batch: Batch, key: Key) -> int:
    """Make a batch of this key that is `uploading` and has all that the other has; return its id.

    Refusal: 404 `file_unknown` where a file was deleted after its time; then nothing is made.
    """
    of = batch_files.c
    files = select(of.name, of.digest, of.position, of.format, of.separator).where(of.batch_id == batch.id).order_by(of.position)
    with writing(engine) as connection:
        made = insert_batch(
            connection, control=batch.control, key_id=key.id, comment=batch.comment, file_name=batch.file_name,
            creation_path=batch.creation_path, addresses=batch.addresses,
        )  # fmt: skip
        now = clock.now()
        for row in connection.execute(files).all():
            retention.use(connection, row.digest)
            connection.execute(batch_files.insert(), dict(row._mapping) | {"batch_id": made, "created_at": now})
    return made
