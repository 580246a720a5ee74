"""Files as they come: read exactly, in flat memory, or refused record by record."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from engine import faults
from tests.engine_parts import run_import, sql
from tests.reader_parts import chunks, told
from tests.test_law import ddl
from tests.web_parts import ROOT

CONTROL = """
entities: [{entity: Fact, input: [k, t, n, d, b, day], mappings: [{k: }, {t: }, {n: }, {d: }, {b: }, {day: }]}]
files: {f.csv: {entity: Fact, action: Insert, OPTIONS}}
"""
TABLE = "CREATE TABLE fact(k integer PRIMARY KEY, t varchar(30), n bigint, d numeric(30, 10), b boolean, day date);"


@pytest.mark.parametrize("options", ["separator: '|', decimal: ','", "separator: ';', decimal: ','", 'separator: "\\t", decimal: ","'])
def test_separators_and_decimal_commas(target_url: str, tmp_path: Path, options: str) -> None:
    """Bars, semicolons and tabs separate, and a comma may stand before the decimals (T67)."""
    ddl(target_url, TABLE)
    mark = {"|": "|", ";": ";"}.get(options[12], "\t")
    data = (
        "k,t,n,d,b,day\n1,a,7,0.5,true,2024-01-31\n2,b,7,1.000,true,\n".replace(",", mark).replace("0.5", "0,5").replace("1.000", "1,000")
    )
    done = run_import(target_url, CONTROL.replace("OPTIONS", options), {"f.csv": data}, tmp_path)
    assert done.codes == ["RecordCreated"] * 2
    assert [float(d) for (d,) in sql(target_url, "SELECT d FROM fact ORDER BY k")] == [0.5, 1.0]


VALUES = [  # column, text, what the table says of it (None: it is refused)
    ("t", "007", "007"), ("t", "1e5", "1e5"), ("t", "TRUE", "TRUE"), ("t", "NaN", "NaN"), ("t", "01/02/03", "01/02/03"), ("t", "é", "é"),
    ("n", "007", "7"), ("n", "1e5", None), ("n", "TRUE", None), ("n", "12345678901234567890", None),
    ("n", "9007199254740993", "9007199254740993"), ("n", "1.0", None), ("d", "NaN", None), ("d", "Infinity", None), ("d", "0.1", "0.1"),
    ("d", "0.2", "0.2"), ("d", "1e2", "100"), ("d", "0x10", None), ("b", "TRUE", "true"), ("b", "yes", "true"), ("b", "2", None),
    ("b", "wahr", None), ("day", "2024-02-29", "2024-02-29"), ("day", "2024-02-30", None), ("day", "01/02/03", None),
    ("day", "20240229", None),
]  # fmt: skip


def test_values_are_exact_by_the_type_of_their_column(target_url: str, tmp_path: Path) -> None:
    """The same text is kept, converted exactly or refused as its column's type says; nothing is guessed (T71)."""
    ddl(target_url, TABLE)
    lines = [{"k": str(k), column: text} for k, (column, text, _) in enumerate(VALUES)]
    data = "k,t,n,d,b,day\n" + "".join(",".join(line.get(name, "") for name in ("k", "t", "n", "d", "b", "day")) + "\n" for line in lines)
    done = run_import(target_url, CONTROL.replace("OPTIONS", "empty: clear"), {"f.csv": data}, tmp_path)
    assert [code == "RecordCreated" for code in done.codes] == [kept is not None for _, _, kept in VALUES]
    for k, (column, text, kept) in enumerate(VALUES):
        found = sql(target_url, f"SELECT {column} FROM fact WHERE k = {k}")
        assert [_plain(column, value) for (value,) in found] == ([] if kept is None else [kept]), (column, text)
    total = sql(target_url, "SELECT sum(d) FROM fact WHERE d < 1")[0][0]
    assert _plain("d", total) in ("0.3", "0.30000000000000004" if target_url.startswith("sqlite") else "0.3")


def _plain(column: str, value: object) -> str:
    text = str(value)
    if column == "b":
        return "true" if value in (True, 1) else "false"
    return text.rstrip("0").rstrip(".") if column == "d" and "." in text else text


def test_a_member_that_comes_late(target_url: str, tmp_path: Path) -> None:
    """A name that the first 10,000 objects lack is a column from where it appears on, and leaves the rows before alone (T73)."""
    ddl(target_url, TABLE)
    control = CONTROL.replace("f.csv", "f.jsonl").replace(", OPTIONS", "")
    lines = [json.dumps({"k": k, **({"t": "late"} if k >= 10_000 else {})}) for k in range(10_003)]
    done = run_import(target_url, control, {"f.jsonl": "\n".join(lines)}, tmp_path)
    assert (done.counts.created, done.counts.errors) == (10_003, 0)
    assert sql(target_url, "SELECT min(k), count(*) FROM fact WHERE t = 'late'") == [(10_000, 3)]


def test_lines_that_are_no_objects() -> None:
    """An array, a blank line, a name twice, a depth of a thousand: each costs its own line (T73)."""
    bad = ["[1]", "", '{"a":1,"a":2}', '{"a":{"x":1,"x":2}}', '{"a":' + "[" * 1000 + "]" * 1000 + "}", '{"a":1e400}']
    found = told(chunks("\n".join([*bad, '{"a":1}']), "f.jsonl"))
    kinds = [(line, said if isinstance(said, dict) else said.code) for line, said in found]
    invalid = faults.INVALID_JSON_LINE.code
    assert kinds == [(1, faults.NOT_AN_OBJECT.code), (3, invalid), (4, invalid), (5, invalid), (6, {"a": "1e400"}), (7, {"a": "1"})]


@pytest.mark.slow
def test_five_million_rows_in_flat_memory(tmp_path: Path) -> None:
    """A worker's memory does not grow with its file: five million rows need less than 200 MB (T74)."""
    path, url = tmp_path / "f.csv", f"sqlite:///{tmp_path / 'target.db'}"
    with path.open("w") as file:
        file.write("k,t\n")
        file.writelines(f"{k},value {k % 1000}\n" for k in range(5_000_000))
    ddl(url, "CREATE TABLE fact(k integer PRIMARY KEY, t varchar(30));")
    (tmp_path / "run.py").write_text(IN_FLAT_MEMORY)
    told_by = subprocess.run([sys.executable, tmp_path / "run.py", url, tmp_path], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    created, kilobytes = map(int, told_by.stdout.split())
    assert created == 5_000_000 and kilobytes < 200_000


IN_FLAT_MEMORY = """
import sys
sys.path.insert(0, ".")
from pathlib import Path
import clock
from engine.control import compile
from engine.run import RunFile, RunOrder, carry_out
from engine.target import open_target
from schemas.control import parse
from spool import open_spool

url, folder = sys.argv[1], Path(sys.argv[2])
control = b"entities: [{entity: Fact, input: [k, t], mappings: [{k: }, {t: }]}]\\nfiles: {f.csv: {entity: Fact, action: Insert}}"
target = open_target(url)
target.create_ledger()
order = RunOrder(
    run="big", batch_id=1, files=[RunFile("f.csv", lambda: (folder / "f.csv").open("rb"), lambda: None)], mode="import",
    execution="PerRecord",
    plan=compile(parse(control), target.tables(), target.dialect), started_at=clock.now(), scratch=folder, is_ordered=False,
)
done = carry_out(order, target, open_spool(f"file:{folder / 'spool'}"), lambda name: None)
for _ in done.results:
    pass
# VmHWM, since ru_maxrss takes over what the process that started this one had.
print(done.counts.created, next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
