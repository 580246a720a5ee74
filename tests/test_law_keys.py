"""Identities of every sort: keys of bytes, of several columns, of none, and keys with line breaks in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.engine_parts import run_import, sql
from tests.test_law import ddl


@pytest.mark.parametrize("chunk_records", [1, 5000])
def test_rows_with_keys_of_bytes_are_found_changed_and_deleted(target_url: str, tmp_path: Path, chunk_records: int) -> None:
    """A primary key may be binary: the row's address is then bytes."""
    kind = "blob" if target_url.startswith("sqlite") else "bytea"
    sql(target_url, f"CREATE TABLE blobs(k {kind} PRIMARY KEY, name varchar(9))")
    control = (
        "entities: [{entity: Blob, table: blobs, input: [k, name], mappings: [{k: }, {name: }]}]\n"
        "files: {f.csv: {entity: Blob, action: %s}}"
    )
    merged = run_import(target_url, control % "Merge", {"f.csv": "k,name\n00ff,A\n01,B\n00FF,C\n"}, tmp_path, chunk_records=chunk_records)
    assert merged.codes == ["RecordCreated", "RecordCreated", "RecordUpdated"]
    again = run_import(target_url, control % "Merge", {"f.csv": "k,name\n00ff,C\n01,X\n"}, tmp_path, chunk_records=chunk_records)
    assert again.codes == ["RecordUnchanged", "RecordUpdated"]
    gone = run_import(target_url, control % "Delete", {"f.csv": "k,name\n00ff,\n02,\n00ff,\n"}, tmp_path, chunk_records=chunk_records)
    assert gone.codes == ["RecordDeleted", "RecordNotFound", "RecordNotFound"]
    assert sql(target_url, "SELECT name FROM blobs") == [("X",)]
    ids = [[row["EntityId"] for row in done.results] for done in (merged, again, gone)]
    assert ids == [["\\x00ff", "\\x01", "\\x00ff"], ["\\x00ff", "\\x01"], ["\\x00ff", "", ""]]
    assert gone.results[1]["Message"] == "There is no Blob with k '\\x02' to delete"


@pytest.mark.parametrize("chunk_records", [1, 5000])
def test_rows_are_looked_up_by_bytes(target_url: str, tmp_path: Path, chunk_records: int) -> None:
    """A reference may be found by a column of bytes, a digest for one, and so may the record itself."""
    kind = "blob" if target_url.startswith("sqlite") else "bytea"
    ddl(
        target_url,
        f"CREATE TABLE part(id SERIAL PRIMARY KEY, digest {kind} UNIQUE); "
        f"CREATE TABLE stock(id SERIAL PRIMARY KEY, tag {kind} UNIQUE, part_id bigint REFERENCES part(id));",
    )
    sql(target_url, f"INSERT INTO part(digest) VALUES ({'x' if kind == 'blob' else ''}'{'' if kind == 'blob' else chr(92) + 'x'}00ff')")
    control = """
entities:
- entity: Stock
  input: [tag, digest]
  mappings:
  - id: {converter: {type: CodeReferenceLookup, column: tag, input: tag}}
  - tag:
  - part_id: {converter: {type: ReferenceLookup, properties: {"part->digest": digest}}}
files: {f.csv: {entity: Stock, action: Merge}}
"""
    data = "tag,digest\n01,00FF\n02,00fe\n01,00ff\n0g,00ff\n"
    done = run_import(target_url, control, {"f.csv": data}, tmp_path, chunk_records=chunk_records)
    assert done.codes == ["RecordCreated", "ReferenceNotFound", "RecordUnchanged", "InvalidBinary"]
    assert done.results[1]["Message"] == "There is no row in part with digest '\\x00fe'"
    assert sql(target_url, "SELECT count(*) FROM stock JOIN part ON part.id = part_id") == [(1,)]


def test_a_file_of_keys_alone_changes_nothing(target_url: str, tmp_path: Path) -> None:
    """With no column but the key's, known rows are unchanged and new ones made."""
    ddl(target_url, "CREATE TABLE word(w varchar(9) PRIMARY KEY, n integer);")
    sql(target_url, "INSERT INTO word VALUES ('a', 1)")
    control = "entities: [{entity: Word, input: [w], mappings: [{w: }]}]\nfiles: {f.csv: {entity: Word, action: Merge}}"
    assert run_import(target_url, control, {"f.csv": "w\na\nb\nb\n"}, tmp_path).codes == [
        "RecordUnchanged", "RecordCreated", "RecordUnchanged",
    ]  # fmt: skip
    assert sql(target_url, "SELECT w, n FROM word ORDER BY w") == [("a", 1), ("b", None)]


@pytest.mark.parametrize("is_ordered", [False, True])
def test_a_key_with_a_line_break_takes_one_line_of_the_results(target_url: str, tmp_path: Path, is_ordered: bool) -> None:
    """Each record has one physical line in the results, whatever its key is."""
    ddl(target_url, "CREATE TABLE word(w varchar(20) PRIMARY KEY, n integer);")
    control = "entities: [{entity: Word, input: [w, n], mappings: [{w: }, {n: }]}]"
    line = "Word,Merge,1," if is_ordered else "Word,Merge,"
    data = f'{line}"two\nlines",1\n{line}"three\r\nli\u2028nes",x\n{line}plain,2\n'
    done = run_import(target_url, control, {"f.txt": data}, tmp_path, is_ordered=is_ordered)
    assert done.codes == ["RecordCreated", "InvalidInteger", "RecordCreated"]
    assert len(done.raw.splitlines()) == 4


def test_an_identity_through_a_reference_that_is_filled_otherwise(target_url: str, tmp_path: Path) -> None:
    """A row is sought by its owner's name but gets its owner by a code: what an earlier record made is found by what it is."""
    ddl(
        target_url,
        "CREATE TABLE owner(id SERIAL PRIMARY KEY, code varchar(9) UNIQUE, name varchar(9));"
        "CREATE TABLE pet(id SERIAL PRIMARY KEY, owner_id bigint REFERENCES owner(id), legs integer);",
    )
    sql(target_url, "INSERT INTO owner(code, name) VALUES ('c1', 'ann'), ('c2', 'bob')")
    control = """
entities:
- entity: Pet
  input: [name, owner, legs]
  mappings:
  - id: {converter: {type: ReferenceLookup, properties: {"Pet->Owner_name": name}}}
  - owner_id: {converter: {type: CodeReferenceLookup, input: owner}}
  - legs:
files: {f.csv: {entity: Pet, action: Merge}}
"""
    for chunk_records in (1, 5000):
        sql(target_url, "DELETE FROM pet")
        done = run_import(target_url, control, {"f.csv": "name,owner,legs\nann,c2,3\nbob,c2,4\n"}, tmp_path, chunk_records=chunk_records)
        assert done.codes == ["RecordCreated", "RecordUpdated"]


@pytest.mark.parametrize("action", ["Update", "Delete", "Merge"])
def test_a_file_without_its_key_column_touches_no_row(target_url: str, tmp_path: Path, action: str) -> None:
    """Where the column is absent that rows are found by, nothing is written, and what is wanted is named (T45)."""
    ddl(target_url, "CREATE TABLE word(w varchar(9) PRIMARY KEY, n integer);")
    sql(target_url, "INSERT INTO word VALUES ('a', 1), ('b', 2)")
    control = "entities: [{entity: Word, input: [w, n], mappings: [{w: }, {n: }]}]\nfiles: {f.csv: {entity: Word, action: %s}}"
    done = run_import(target_url, control % action, {"f.csv": "n\n7\n8\n"}, tmp_path)
    assert sql(target_url, "SELECT w, n FROM word ORDER BY w") == [("a", 1), ("b", 2)]
    assert done.codes == ["KeyMissing", "KeyMissing"]
    assert (
        done.results[0]["Message"]
        == "The key part w of Word has no value (there is no column 'w'), so the record cannot be told from others"
    )
