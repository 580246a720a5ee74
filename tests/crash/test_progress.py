"""How far a run is, asked by its writers while its reader goes on."""

from __future__ import annotations

from io import BufferedReader
from pathlib import Path
from typing import cast

from jobs.order import Reading
from spool import open_spool


def test_a_file_that_is_just_closed_does_not_end_the_run(tmp_path: Path) -> None:
    """T15: a writer that asks while the reader takes the file away learns that the file has been read, and nothing worse."""
    spool = open_spool(f"file:{tmp_path}")
    with spool.receive() as receiver:
        receiver.write(b"code")
        digest, size = receiver.commit()
    reading = Reading(spool, [size, size])
    stream = cast(BufferedReader, reading.open(0, digest))
    assert reading.progress() == 0
    stream.detach().close()
    assert reading.progress() == 0.5
