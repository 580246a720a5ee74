"""The catalog: Lading's own tables, which are the truth about keys, control files, files and batches.

One module a concern, plain functions, an engine as their first argument: keys, controls, files, batches, idempotency, markers; migrate
makes the tables. Nothing outside this package writes SQL on them.
"""

from catalog.database import connect

__all__ = ["connect"]
