"""Hold the running service to its description: `CONTRACT_MINUTES=10 python -m tests.contract`. It ends with 0 if nothing is found."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from tests.contract.run import run

if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="contract") as folder:
        minutes = float(os.environ.get("CONTRACT_MINUTES") or 10)
        done = run(Path(folder), "", round(minutes * 60), *sys.argv[1:])
    print(done.stdout)
    sys.exit(done.returncode)
