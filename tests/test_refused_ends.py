"""Ends that are nobody's data's fault: a target that vanishes, time-outs, deadlocks, files that break in the middle; and masked values."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from engine import writers as writing
from engine.target.postgresql import session as postgresql_session
from errors import TargetUnavailable
from tests.engine_parts import Imported, run_import, sql
from tests.test_law import ITEM_TABLE, ITEMS, ddl, items


@pytest.fixture(autouse=True)
def threads_for_small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the writers' threads take chunks as small as those of these tests."""
    monkeypatch.setattr(writing, "WORTH_A_THREAD", 1, raising=False)


RAISING = """CREATE FUNCTION r() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF NEW.seat = 7 THEN RAISE 'not now' USING ERRCODE = '%s'; END IF; RETURN NEW; END $$"""


@pytest.mark.parametrize("state", ["40P01", "40001", "57014", "53100", "55P03"])
def test_what_is_not_about_the_data_ends_the_attempt(pg_database: str, tmp_path: Path, state: str) -> None:
    """A deadlock, a serialization failure, a time-out, a full disk or a lock that is not given is no record's fault (T37)."""
    ddl(pg_database, ITEM_TABLE)
    sql(pg_database, RAISING % state)
    sql(pg_database, "CREATE TRIGGER r BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION r()")
    with pytest.raises(TargetUnavailable):
        items(pg_database, "a,A,1\nb,B,7\n", tmp_path, run="state")
    assert sql(pg_database, "SELECT count(*) FROM item") == [(0,)]
    sql(pg_database, "DROP TRIGGER r ON item")
    assert items(pg_database, "a,A,1\nb,B,7\n", tmp_path, run="state").codes == ["RecordCreated"] * 2


@pytest.mark.parametrize("method", ["_prepare", "_insert", "_update", "_loop", "find", "add_ledger", "commit"])
@pytest.mark.parametrize("writers", [0, 2])
def test_a_target_that_vanishes_ends_the_attempt_and_the_next_one_is_clean(
    pg_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, writers: int
) -> None:
    """The session's backend is ended right before a step of the second chunk: TargetUnavailable, and the run can be carried on."""
    ddl(pg_database, ITEM_TABLE)
    items(pg_database, "b,Before,3\nd,Before,4\n", tmp_path)
    original: Callable[..., Any] = getattr(postgresql_session.PostgresSession, method)
    calls = 0

    def end_backend(self: Any, *args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 2:
            with psycopg.connect(pg_database, autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s, 5000)", (self._connection.info.backend_pid,))
        return original(self, *args, **options)

    rows = "a,A,1\nb,B,2\nx,X,99999999999\nc,C,5\nd,D,6\nd,E,6\ne,C,5\nb,F,5\nb,F,8\n"
    wanted = ["RecordCreated", "RecordUpdated", "OutOfRange", "RecordCreated", "RecordUpdated", "RecordUpdated"]
    with monkeypatch.context() as patched:
        patched.setattr(postgresql_session.PostgresSession, method, end_backend)
        with pytest.raises(TargetUnavailable):
            items(pg_database, rows, tmp_path, run="vanish", chunk_records=3, writers=writers)
    done = items(pg_database, rows, tmp_path, run="vanish", chunk_records=3, writers=writers)
    assert done.codes == [*wanted, "DuplicateKey", "DuplicateKey", "RecordUpdated"]


def test_a_statement_that_takes_too_long_ends_the_attempt(pg_database: str, tmp_path: Path) -> None:
    """statement_timeout (57014) is not a record's fault, whatever step it hits."""
    ddl(pg_database, ITEM_TABLE)
    sql(pg_database, "CREATE FUNCTION s() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3); RETURN NEW; END $$")
    sql(pg_database, "CREATE TRIGGER s BEFORE INSERT ON item FOR EACH ROW EXECUTE FUNCTION s()")
    with pytest.raises(TargetUnavailable):
        items(pg_database + "?options=-c%20statement_timeout%3D300", "a,A,1\n", tmp_path)


# Files ------------------------------------------------------------------------------------------------------------------
def _broken_gzip(records: int) -> bytes:
    lines = "code,name,seat\n" + "".join(f"c{n},{hash(str(n)) % 10**9},{n}\n" for n in range(records))
    whole = gzip.compress(lines.encode())
    return whole[: len(whole) * 2 // 3]


@pytest.mark.parametrize("execution", ["PerRecord", "AllOrNone"])
def test_a_file_that_breaks_in_the_middle_ends_the_run_and_each_record_read_has_its_result(
    target_url: str, tmp_path: Path, execution: str
) -> None:
    """What came before the break is applied or taken back, what came of it is said, and the file itself has a result."""
    ddl(target_url, ITEM_TABLE)
    control = ITEMS.replace("items.csv", "items.csv.gz") % "Merge"
    done = run_import(target_url, control, {"items.csv.gz": _broken_gzip(40_000)}, tmp_path, chunk_records=1000, execution=execution)
    assert (done.state, done.code) == ("failed", "file_refused")
    assert done.codes.count("FileRefused") == 1
    kept = sql(target_url, "SELECT count(*) FROM item")[0][0]
    assert kept == done.counts.created
    assert (kept > 0) is (execution == "PerRecord")


def test_a_refused_file_never_hides_that_the_target_is_gone(pg_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file breaks while a writer is at the chunk before: if that chunk fails, the attempt ends, and no record is lost."""
    ddl(pg_database, ITEM_TABLE)
    control = ITEMS.replace("items.csv", "items.csv.gz") % "Merge"
    data = _broken_gzip(40_000)
    lock = threading.Lock()
    commits = 0
    original = postgresql_session.PostgresSession.commit

    def slow(self: Any) -> None:
        nonlocal commits
        with lock:
            commits += 1
            number = commits
        if number == 3:
            threading.Event().wait(1)
            raise TargetUnavailable("gone")
        original(self)

    with monkeypatch.context() as patched:
        patched.setattr(postgresql_session.PostgresSession, "commit", slow)
        with pytest.raises(TargetUnavailable):
            run_import(pg_database, control, {"items.csv.gz": data}, tmp_path, run="refused", chunk_records=1000)
    done = run_import(pg_database, control, {"items.csv.gz": data}, tmp_path, run="refused", chunk_records=1000)
    assert done.counts.created == sql(pg_database, "SELECT count(*) FROM item")[0][0] == done.counts.records - 1


@pytest.mark.parametrize("writers", [0, 2])
@pytest.mark.parametrize("options", [{}, {"execution": "AllOrNone"}, {"mode": "dry-run"}])
def test_a_cancelled_run_has_a_result_for_each_record(target_url: str, tmp_path: Path, writers: int, options: dict[str, str]) -> None:
    """Cancelled before the third chunk: what was not reached says so, and is counted as unprocessed."""
    ddl(target_url, ITEM_TABLE)
    asked = iter([None, None, *["cancel"] * 99])
    rows = "".join(f"c{n},N,{n}\n" for n in range(9)) + "c9,N\nc10,N,x\n"
    done = items(target_url, rows, tmp_path, chunk_records=2, writers=writers, should_stop=lambda: next(asked), **options)
    assert done.state == "cancelled"
    assert done.counts.records == 11
    kept = 4 if not options else 0
    assert done.codes[:4] == (["RecordCreated"] * 4 if kept else ["RolledBack"] * 4)
    assert set(done.codes[4:9]) == {"NotReached"}
    assert sql(target_url, "SELECT count(*) FROM item") == [(kept,)]


# Masked values ----------------------------------------------------------------------------------------------------------
SECRET = "s3cr3t"
MASKED = """
entities:
- entity: Safe
  table: safe
  input: [code, secret, number, data, owner]
  mappings:
  - id: {converter: {type: CodeReferenceLookup, input: code}}
  - code: %s
  - secret: {masked: true}
  - number: {masked: true}
  - data: {masked: true}
  - owner_id: {masked: true, converter: {type: CodeReferenceLookup, input: owner}}
files: {f.csv: {entity: Safe, action: %s}}
"""
SAFE_TABLE = """CREATE TABLE owner(id SERIAL PRIMARY KEY, code varchar(20) UNIQUE);
CREATE TABLE safe(id SERIAL PRIMARY KEY, code varchar(20) NOT NULL UNIQUE, secret varchar(20) UNIQUE CHECK (length(secret) < 12),
 number integer, data JSONTYPE, owner_id bigint REFERENCES owner(id));"""


def _safe(url: str) -> None:
    is_sqlite = url.startswith("sqlite")
    ddl(url, SAFE_TABLE.replace("JSONTYPE", "json" if is_sqlite else "jsonb"))
    if is_sqlite:
        sql(url, "CREATE TRIGGER t BEFORE INSERT ON safe WHEN NEW.code = 't' BEGIN SELECT RAISE(ABORT, 'the trigger says s3cr3t'); END")
    else:
        sql(
            url,
            "CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            " IF NEW.code = 't' THEN RAISE 'the trigger says %', upper(NEW.secret); END IF; RETURN NEW; END $$",
        )
        sql(url, "CREATE TRIGGER t BEFORE INSERT ON safe FOR EACH ROW EXECUTE FUNCTION t()")


def _shown(done: Imported) -> None:
    assert SECRET not in done.raw.decode().lower(), done.raw.decode()


def test_masked_values_stand_in_no_result(target_url: str, tmp_path: Path) -> None:
    """Whoever refuses a record (a converter, a look-up, a constraint, a trigger), its masked values are shown by nobody (T82)."""
    _safe(target_url)
    sql(target_url, f"INSERT INTO safe(code, secret) VALUES ('there', '{SECRET}')")
    sql(target_url, f"INSERT INTO owner(code) VALUES ('{SECRET}y')")
    rows = (
        f"a,{SECRET},,,\n"  # unique
        f"b,{SECRET}{'x' * 8},,,\n"  # check
        f"c,{SECRET}{'x' * 30},,,\n"  # too long
        f"d,,{SECRET},,\n"  # no number
        f"e,,,{{{SECRET}: 1}},\n"  # no JSON
        f"f,,,,{SECRET}x\n"  # no such owner
        f"t,{SECRET}z,,,\n"  # the trigger
    )
    for chunk_records in (1, 5000):
        done = run_import(target_url, MASKED % ("", "Merge"), {"f.csv": "code,secret,number,data,owner\n" + rows}, tmp_path,
                          chunk_records=chunk_records)  # fmt: skip
        assert done.counts.errors == 7, done.codes
        _shown(done)


@pytest.mark.parametrize("action", ["Insert", "Update", "Delete"])
def test_a_masked_identity_stands_in_no_result(target_url: str, tmp_path: Path, action: str) -> None:
    """Messages of records found, not found or referred to leave a masked key out (T82)."""
    _safe(target_url)
    sql(target_url, f"INSERT INTO safe(code, secret) VALUES ('{SECRET}', 'x')")
    key = SECRET if action == "Insert" else SECRET + "x"
    control = MASKED % ("{masked: true}", action)
    done = run_import(target_url, control, {"f.csv": f"code,secret,number,data,owner\n{key},y,,,\n"}, tmp_path)
    assert done.counts.errors == 1
    _shown(done)
