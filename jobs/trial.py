"""A control file tried on a sample in a process of its own, which has only so much time and memory whatever the two of them hold.

`python -m jobs.trial` reads a line of JSON (a Task) and the sample's bytes from its input, and writes JSON (a Trial) to its output.
"""

from __future__ import annotations

import json
import logging
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from io import BytesIO
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any, BinaryIO

import clock
from engine.control import compile as compile_control
from engine.convert import Context
from engine.faults import Fault
from engine.plan import Plan
from engine.readers import FileRefused
from engine.target import Target, open_target
from engine.trial import Tried, TriedRecord, try_sample
from errors import ControlFileInvalid, Problem, Refusal, TargetUnavailable
from schemas import control as control_files

CPU_SECONDS = 5
WALL_SECONDS = 10.0
MEMORY_BYTES = 256 * 1024 * 1024
AT_ONCE = 2  # trials of one web process
_ROOT = Path(__file__).parent.parent

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Task:
    """What is to be tried. The sample's bytes are told apart."""

    control: str  # the control file's text
    name: str  # which of the control file's files the sample is; empty: the one that it is called as, else the first
    sent_as: str  # what the sample is called where it comes from
    looks_up: bool  # whether the target is asked for the rows that records refer to
    named: dict[str, str] = field(default_factory=dict)  # by name the texts of other control files, for `!Name` rows
    max_control_bytes: int = control_files.MAX_BYTES


class Trials:
    """Tries samples for a web process, a few at once."""

    def __init__(self, target_url: str, max_control_bytes: int) -> None:
        self._target_url, self._max_control_bytes = target_url, max_control_bytes
        self._room = BoundedSemaphore(AT_ONCE)

    def run(self, sample: bytes, **task: Any) -> dict[str, Any]:
        """Return what becomes of a sample, as the fields of schemas.trial.TrialReply; `task` are the fields of Task.

        Raises Refusal (400 for a control file with faults, 422 for a sample that cannot be read, or that takes too much; 503 where others
        are tried) and TargetUnavailable.
        """
        try:
            control_files.examine(task["control"].encode(errors="replace"), self._max_control_bytes)
        except ControlFileInvalid as faults:  # what is no control file at all needs no process to say so
            raise Refusal(400, "control_file_invalid", "The control file has faults.", faults.problems) from None
        if not self._room.acquire(blocking=False):
            raise Refusal(503, "busy", "Other samples are being tried; try again.", headers={"Retry-After": "1"})
        try:
            told = _in_process(task | {"target_url": self._target_url, "max_control_bytes": self._max_control_bytes}, sample)
        finally:
            self._room.release()
        _raise_what_is_wrong(told)
        return told


def _in_process(task: dict[str, Any], sample: bytes) -> dict[str, Any]:
    command = [sys.executable, "-m", "jobs.trial"]
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            command, input=json.dumps(task).encode() + b"\n" + sample, capture_output=True, timeout=WALL_SECONDS, cwd=_ROOT, check=True
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        # What it says may hold values of the sample: only its kind goes to the log.
        log.warning("a sample was given up: %s", error if isinstance(error, subprocess.TimeoutExpired) else f"exit {error.returncode}")
        raise Refusal(422, "sample_too_costly", "Trying this sample takes too much time or memory: send less of it.") from error
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def _raise_what_is_wrong(told: dict[str, Any]) -> None:
    if "problems" in told:
        problems = [Problem(**{**one, "allowed": tuple(one["allowed"])}) for one in told["problems"]]
        raise Refusal(400, "control_file_invalid", "The control file has faults.", problems)
    if "refused" in told:
        raise Refusal(422, "sample_refused", told["refused"])
    if "unavailable" in told:
        raise TargetUnavailable(told["unavailable"])


def tried(task: Task, sample: BinaryIO, target: Target) -> Tried:
    """Try a sample in this process. Raises ControlFileInvalid, FileRefused and TargetUnavailable."""
    try:
        tables = target.tables()

        def compiled(text: str) -> Plan:
            return compile_control(control_files.examine(text.encode(errors="replace"), task.max_control_bytes), tables, target.dialect)

        plan = compiled(task.control)
        others = {name: compiled(text) for name, text in task.named.items()}
    except target.errors as error:
        raise TargetUnavailable(str(error)) from error
    name = task.name or (task.sent_as if task.sent_as in plan.files else next(iter(plan.files), task.sent_as or "sample.csv"))
    file = plan.file(name)
    if file is None:
        raise FileRefused("name", f"The control file has no place for a file called {name} (it has: {', '.join(plan.files)})")
    context = Context(now=clock.now(), batch_id=0, file_name=name)
    return try_sample(plan, file, name, sample, context, target if task.looks_up else None, others.get)


def as_reply(tried: Tried) -> dict[str, Any]:
    """Return what became of a sample as plain data."""
    records = [asdict(record) | {"faults": [_told(fault) for fault in record.faults], "text": _line(record)} for record in tried.records]
    return {"name": tried.name, "records": records, "warnings": tried.warnings, "is_whole": tried.is_whole}


def _line(record: TriedRecord) -> str:
    """Write a record as one line: its line in the file, what it would become, its entity, and the values or what is wrong with it."""
    values = " ".join(f"{cell.column}={cell.value if cell.means == 'value' else f'<{cell.means}>'}" for cell in record.cells)
    wrong = "; ".join(fault.message for fault in record.faults)
    doubt = "" if record.is_certain else "?"
    return f"{record.line}\t{record.operation}{doubt}\t{record.entity}\t" + " ".join((wrong or values).split())


def _told(fault: Fault) -> dict[str, str]:
    kind = fault.kind
    return {"code": kind.code, "severity": kind.severity, "message": fault.message, "column": fault.column, "value": fault.value[:200]}


def main() -> None:
    """Try what comes in, within limits that the process sets itself."""
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    given = json.loads(sys.stdin.buffer.readline())
    target = open_target(given.pop("target_url"))
    try:
        told = as_reply(tried(Task(**given), BytesIO(sys.stdin.buffer.read()), target))
    except ControlFileInvalid as invalid:
        told = {"problems": [asdict(problem) for problem in invalid.problems]}
    except FileRefused as refused:
        told = {"refused": refused.message}
    except TargetUnavailable as error:
        told = {"unavailable": str(error)}
    finally:
        target.close()
    sys.stdout.write(json.dumps(told))


if __name__ == "__main__":
    main()
