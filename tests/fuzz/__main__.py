"""Fuzz with atheris: `python -m tests.fuzz` runs each target for FUZZ_MINUTES, `python -m tests.fuzz NAME...` some of them.

What it finds is under var/fuzz/NAME: in `new` what reaches new code, and in `broken-*` what breaks something. Copy what is worth
keeping to tests/fuzz/corpus/NAME.
"""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

CORPUS, FOUND = Path(__file__).parent / "corpus", Path("var/fuzz")
OURS = ["engine", "schemas", "errors"]


def fuzz(name: str, options: list[str]) -> None:
    """Fuzz one target in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(include=OURS):
        from tests.fuzz.targets import TARGETS

    def keeping(data: bytes) -> None:
        try:
            TARGETS[name](data)
        except Exception:
            (FOUND / name / f"broken-{sha256(data).hexdigest()[:16]}").write_bytes(data)
            raise

    atheris.Setup([sys.argv[0], *options], keeping)
    atheris.Fuzz()


def main(names: list[str]) -> int:
    """Fuzz each target in a process of its own; return how many of them were broken."""
    from tests.fuzz.targets import TARGETS

    seconds = int(float(os.environ.get("FUZZ_MINUTES", "10")) * 60)
    broken = []
    for name in names or TARGETS:
        found = FOUND / name
        (found / "new").mkdir(parents=True, exist_ok=True)
        options = [
            f"-max_total_time={seconds}", "-max_len=2000", "-timeout=20", "-rss_limit_mb=1024", "-print_final_stats=1", "-verbosity=0",
            f"-artifact_prefix={found}/broken-", str(found / "new"), str(CORPUS / name),
        ]  # fmt: skip
        print(f"{name}: {seconds} seconds", flush=True)
        if subprocess.run([sys.executable, "-m", "tests.fuzz", "--one", name, *options], check=False).returncode:
            broken.append(name)
    print(f"broken: {', '.join(broken) or 'none'}")
    return len(broken)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--one"]:
        fuzz(sys.argv[2], sys.argv[3:])
    else:
        sys.exit(main(sys.argv[1:]))
