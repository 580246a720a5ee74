"""`make run`: the whole service on this machine, with its data under var/, until Ctrl-C."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dev.servers import answers
from dev.stack import ROOT, Stopped, only_one, running
from settings import Settings


def main(folder: Path = ROOT / "var") -> int:
    """Start everything, name the address, and stay until asked to stop."""
    port = Settings.from_environment().port
    if answers(port):
        print(f"Something listens on port {port} already; choose another: PORT=8001 make run", file=sys.stderr)
        return 1
    try:
        with only_one(folder / "run.lock"), running(port, folder, dict(os.environ)) as stack:
            print(f"Lading runs at {stack.address}. A key: .venv/bin/flask key create --name me --permission import --permission read")
            if "valkey" in stack.processes:
                print(f"To look at it: REDIS_URL={stack.env['REDIS_URL']} .venv/bin/flask doctor")
            print("Commands need the settings that it has. Ctrl-C stops it.", flush=True)
            stack.watch()
    except Stopped:
        print("Stopped.")
        return 0
    except RuntimeError as failure:
        print(f"Stopped: {failure}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
