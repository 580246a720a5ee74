"""The commands, and that their page says what they are."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result
from sqlalchemy import Engine

import catalog
import cli
import clock
from catalog import keys
from settings import Settings
from tests.engine_parts import sql

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs/reference/commands.md").read_text(encoding="utf-8")
GOOD = "entities:\n- entity: Item\n  table: item\n  input: [code]\n  mappings:\n  - code:\n"
BAD = GOOD.replace("item", "nothing") + GOOD.removeprefix("entities:\n").replace("Item", "Other").replace("- code:", "- cod:")


@pytest.fixture
def settings(target_url: str, tmp_path: Path) -> Settings:
    """Give settings with an empty target and no catalog yet."""
    return Settings.from_environment({"TARGET_URL": target_url, "CATALOG_URL": f"sqlite:///{tmp_path}/var/catalog.db"})


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    """Give the catalog that the commands use, made by `db upgrade`."""
    assert run(settings, "db", "upgrade").exit_code == 0
    made = catalog.connect(settings.catalog_url)
    yield made
    made.dispose()


def run(settings: Settings, *words: str) -> Result:
    """Run a command as `flask` does."""
    found = {command.name: command for command in cli.commands(settings)}
    return CliRunner().invoke(found[words[0]], words[1:])


def commands(settings: Settings) -> dict[str, click.Command]:
    """Return every command by its words."""
    found: dict[str, click.Command] = {}
    for command in cli.commands(settings):
        below = command.commands if isinstance(command, click.Group) else {}
        found |= {f"flask {command.name} {name}": each for name, each in below.items()} or {f"flask {command.name}": command}
    return found


@pytest.fixture
def any_settings() -> Settings:
    """Give settings for what touches no database."""
    return Settings.from_environment({})


def test_a_key_and_only_the_key_is_printed(settings: Settings, engine: Engine) -> None:
    """`key create` prints one line, a key that opens, with the name, permissions, limits and expiry that were asked for."""
    words = ("--name", "n", "--permission", "import", "--permission", "read", "--expires", "2099-01-31", "--control", "nightly")
    made = run(settings, "key", "create", *words)
    assert re.fullmatch(r"lad_[0-9a-f]+_[A-Za-z0-9_-]{43}\n", made.stdout)
    assert (made.exit_code, made.stderr) == (0, "")
    key = keys.verify(engine, made.stdout.strip())
    assert key is not None
    assert key.expires_at is not None
    assert (key.name, key.permissions, key.control_names) == ("n", {"import", "read"}, {"nightly"})
    assert key.expires_at.isoformat() == "2099-01-31T00:00:00+00:00"


def test_keys_that_make_no_sense_are_refused(settings: Settings, engine: Engine) -> None:
    """An unknown permission, none, no name, a time that is none or past: exit status 64, a reason, and no key."""
    past = (clock.now() - timedelta(days=1)).isoformat()
    for words, reason in [
        (("--name", "n", "--permission", "write"), "read:all"),
        (("--name", "n"), "--permission"),
        (("--permission", "read"), "--name"),
        (("--name", "n", "--permission", "read", "--expires", "soon"), "2027-01-31"),
        (("--name", "n", "--permission", "read", "--expires", past), "past"),
    ]:
        refused = run(settings, "key", "create", *words)
        assert (refused.exit_code, refused.stdout) == (64, "")
        assert reason in refused.stderr
    assert keys.all_keys(engine) == []


def test_keys_are_listed_and_revoked(settings: Settings, engine: Engine) -> None:
    """`key list` shows every key and its state but no secret, as a table and as JSON; `key revoke` makes one fail."""
    token = keys.create(engine, "left\nright\x1b[31m", ["read"])
    keys.create(engine, "old", ["import"], expires_at=clock.now(), limits={"controls": ["b", "a"]})
    key_id, secret = token.split("_", 2)[1:]
    assert run(settings, "key", "revoke", key_id).exit_code == 0
    table, listed = run(settings, "key", "list"), run(settings, "key", "list", "--json")
    assert secret not in table.stdout + listed.stdout
    lines = table.stdout.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["ID", "NAME", "STATE"],
        [key_id, "left?right?[31m", "revoked"],
        [lines[2].split()[0], "old", "expired"],
    ]
    rows = json.loads(listed.stdout)
    assert [(row["name"], row["state"], row["permissions"], row["controls"]) for row in rows] == [
        ("left\nright\x1b[31m", "revoked", ["read"], None),
        ("old", "expired", ["import"], ["a", "b"]),
    ]
    assert keys.verify(engine, token) is None
    again = run(settings, "key", "revoke", key_id)
    assert (again.exit_code, again.stdout) == (1, "")
    assert key_id in again.stderr


def test_without_a_catalog_a_command_says_what_to_do(settings: Settings) -> None:
    """A command that finds no tables names `flask db upgrade` instead of showing a traceback."""
    (Path(settings.catalog_url.removeprefix("sqlite:///")).parent).mkdir()
    failed = run(settings, "key", "list")
    assert (failed.exit_code, failed.stdout) == (1, "")
    assert "flask db upgrade" in failed.stderr
    assert isinstance(failed.exception, SystemExit)


def test_upgrade_makes_catalog_and_ledger_and_may_be_repeated(settings: Settings, engine: Engine, target_url: str) -> None:
    """`db upgrade` makes the catalog and, in the target, the ledger; again, it changes nothing and says nothing."""
    keys.create(engine, "kept", ["read"])
    again = run(settings, "db", "upgrade")
    assert (again.exit_code, again.output) == (0, "")
    assert [key.name for key in keys.all_keys(engine)] == ["kept"]
    ledger = "lading_ledger" if target_url.startswith("sqlite") else "lading.ledger"
    assert sql(target_url, f"SELECT count(*) FROM {ledger}") == [(0,)]


def test_upgrade_says_which_database_failed(tmp_path: Path) -> None:
    """Without a reachable catalog, or target, `db upgrade` exits with 69 and names it."""
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    for name, url in (("CATALOG_URL", nowhere), ("TARGET_URL", nowhere)):
        there = {"TARGET_URL": f"sqlite:///{tmp_path}/t.db", "CATALOG_URL": f"sqlite:///{tmp_path}/c.db", name: url}
        failed = run(Settings.from_environment(there), "db", "upgrade")
        assert failed.exit_code == 69
        assert ("catalog" if name == "CATALOG_URL" else "target") in failed.stderr
        assert isinstance(failed.exception, SystemExit)


def test_a_control_file_is_checked_against_the_target(settings: Settings, target_url: str, tmp_path: Path) -> None:
    """`control check` passes a good control file, and prints every fault of a bad one with its line; nothing is stored."""
    sql(target_url, "CREATE TABLE item (code text PRIMARY KEY)")
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(GOOD, encoding="utf-8")
    bad.write_text(BAD, encoding="utf-8")
    passed, failed = run(settings, "control", "check", str(good)), run(settings, "control", "check", str(bad))
    assert passed.exit_code == 0, passed.output
    assert "item" in passed.stdout
    assert failed.exit_code == 1
    assert {line.split(":")[0] for line in failed.stdout.splitlines()} == {"line 3", "line 11"}
    assert run(settings, "control", "check", str(tmp_path / "none.yaml")).exit_code == 64
    assert not Path(settings.catalog_url.removeprefix("sqlite:///")).exists()


def test_a_control_file_is_tried_on_a_sample(settings: Settings, target_url: str, tmp_path: Path) -> None:
    """`control try` prints what each record would become; faults of the control file, and a sample that cannot be read, end it with 1."""
    sql(target_url, "CREATE TABLE item (code text PRIMARY KEY)")
    good, bad, sample = tmp_path / "good.yaml", tmp_path / "bad.yaml", tmp_path / "sample.csv"
    good.write_text(GOOD, encoding="utf-8")
    bad.write_text(BAD, encoding="utf-8")
    sample.write_text("Item,Insert,A\nItem,Insert,\n", encoding="utf-8")
    told = run(settings, "control", "try", str(good), str(sample))
    assert told.exit_code == 0, told.output
    created, refused = told.stdout.splitlines()
    assert created == "1\tcreate\tItem\tcode=A" and refused.startswith("2\trefuse\tItem\t")
    assert sql(target_url, "SELECT count(*) FROM item") == [(0,)]
    for control, name, said in ((bad, "", "line 3"), (good, "x.xlsx", "no XLSX workbook")):
        failed = run(settings, "control", "try", str(control), str(sample), *(["--name", name] if name else []))
        assert failed.exit_code == 1 and said in failed.stderr


def test_the_commands_hang_on_flask(tmp_path: Path) -> None:
    """Run as users run them, `flask db upgrade` and `flask key create` print nothing but the key."""
    env = os.environ | {"TARGET_URL": f"sqlite:///{tmp_path}/t.db", "CATALOG_URL": f"sqlite:///{tmp_path}/c.db"}
    env["SPOOL_URL"] = f"file:{tmp_path}/spool"

    def flask(*words: str) -> str:
        command = [sys.executable, "-m", "flask", *words]
        return subprocess.run(command, cwd=ROOT, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout

    assert flask("db", "upgrade") == ""
    assert re.fullmatch(r"lad_\S+\n", flask("key", "create", "--name", "n", "--permission", "read"))


def test_the_page_describes_every_command_and_option(any_settings: Settings) -> None:
    """docs/reference/commands.md has a section for each command, in their order, and a line for each of its options, and no others."""
    sections = dict(re.findall(r"^## (flask .+)\n((?:(?!## ).*\n?)*)", PAGE, re.MULTILINE))
    found = commands(any_settings)
    assert list(sections) == list(found)
    for name, command in found.items():
        described = re.findall(r"^\| `(--[a-z-]+)`", sections[name], re.MULTILINE)
        assert described == [p.opts[0] for p in command.params if isinstance(p, click.Option)], name
    for permission in keys.PERMISSIONS:
        assert f"`{permission}`" in sections["flask key create"]


def test_the_examples_of_the_page_are_calls_that_work(any_settings: Settings) -> None:
    """Every example of the page names a command, and options and arguments that it takes."""
    found = commands(any_settings)
    examples = re.findall(rf"^    ({'|'.join(found)})\b(.*)$", PAGE, re.MULTILINE)
    assert len(examples) >= 3
    for name, rest in examples:
        command = found[name]
        for word in re.findall(r"--[a-z-]+", rest):
            assert word in {opt for p in command.params for opt in p.opts}
