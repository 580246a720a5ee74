"""What an invitation makes a worker's fork do: help with a batch that another worker carries out."""

from __future__ import annotations

from jobs import run_batch


def run(batch_id: int) -> None:
    """Carry out what waits, as always, and then write chunks of the batch, as long as there are any and nothing else can be claimed."""
    run_batch.work(invited_to=batch_id)
