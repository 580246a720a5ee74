"""How a batch stands, in one number and in one line."""

from catalog.states import Batch, State


def import_exit(batch: Batch) -> int:
    """Return what a script may exit with: 0 all well, 1 failed or cancelled, 2 some rows refused, 3 not finished."""
    if not batch.state.is_over:
        return 3
    if batch.state is not State.COMPLETED:
        return 1
    return 2 if batch.counts.errors else 0


def line_of(batch: Batch) -> str:
    """Return the status as one line; what is not the rule (unprocessed records, a reason) stands at its end."""
    counts = batch.counts
    line = f"{batch.state} input={counts.input} success={counts.success} error={counts.errors} skip={counts.skipped}"
    line += f" unprocessed={counts.unprocessed}" if counts.unprocessed else ""
    return f"{line} code={batch.code}" if batch.code else line
