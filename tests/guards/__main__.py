"""Take each guard out in a copy of the project and run the tests that hold it: `python -m tests.guards T38 T41` does those of some cases.

guards.txt lists them: `#` the case and what it is about, `!` the tests, `@` a file, `-` the lines that are taken out of it, as they stand,
and `+` what takes their place. A guard whose tests pass without it, or that does not stand there any more, makes the exit status 1.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
SECONDS = 300  # some guards keep a test from waiting for ever


@dataclass
class Edit:
    """Lines of one file, and what takes their place."""

    path: str
    old: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)

    def apply(self, tree: Path) -> str:
        """Carry it out; return the file as it was. ValueError where the lines do not stand there exactly once."""
        before = (tree / self.path).read_text()
        end = "" if self.new else "\n"
        old = "\n".join(self.old) + end
        if before.count(old) != 1:
            raise ValueError(f"{self.path}: stands there {before.count(old)} times: {old.strip()[:80]}")
        (tree / self.path).write_text(before.replace(old, "\n".join(self.new)))
        return before


@dataclass
class Guard:
    """What is taken out for one case, and the tests that must fail then."""

    case: str  # T01 to T88
    about: str
    tests: list[str] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)

    def is_missed(self, tree: Path) -> bool:
        """Take the guard out, run the tests, and put it back; tell whether one of them failed."""
        before: dict[str, str] = {}
        try:
            for edit in self.edits:
                was = edit.apply(tree)
                before.setdefault(edit.path, was)
            command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *self.tests]
            done = subprocess.run(command, cwd=tree, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=SECONDS)
            if done.returncode not in (0, 1):
                raise ValueError(f"pytest ended with {done.returncode}: {shlex.join(self.tests)}")
            return done.returncode == 1
        except subprocess.TimeoutExpired:
            return True
        finally:
            for path, was in before.items():
                (tree / path).write_text(was)


def guards(text: str) -> Iterator[Guard]:
    """Read the list."""
    for block in text.split("\n# ")[1:]:
        head, *lines = block.splitlines()
        case, _, about = head.partition(" ")
        guard = Guard(case, about)
        for line in lines:
            match line[:1]:
                case "!":
                    guard.tests = shlex.split(line[1:])
                case "@":
                    guard.edits.append(Edit(line[1:].strip()))
                case "-":
                    guard.edits[-1].old.append(line[1:])
                case "+":
                    guard.edits[-1].new.append(line[1:])
        yield guard


def main() -> int:
    """Try the guards; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.guards")
    parser.add_argument("cases", nargs="*", help="T01 to T88; all, if none is named")
    wanted = parser.parse_args().cases
    bad = 0
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "tree"
        files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
        for name in files.decode().split("\0")[:-1]:
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((ROOT / name).read_bytes())
        for guard in guards((Path(__file__).parent / "guards.txt").read_text()):
            if wanted and guard.case not in wanted:
                continue
            began = time.monotonic()
            try:
                told = "missed" if guard.is_missed(tree) else "NOT MISSED"
            except ValueError as error:
                told = f"CANNOT BE TRIED: {error}"
            bad += told != "missed"
            print(f"{guard.case} {guard.about}: {told} ({time.monotonic() - began:.0f} s)", flush=True)
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
