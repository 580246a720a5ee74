"""The pages under docs/ and the README: what they show is what happens, and their links lead somewhere."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields
from pathlib import Path

import psycopg
import pytest
import redis

from dev import demo
from dev.stack import ROOT, Stack
from settings import Settings
from tests.docs_parts import DOCS, checkout, headings, is_shown, links, of_kind, read, run_page, service
from tests.test_layout import tracked

OTHER_VARIABLES = {
    "CRASH_SEED",
    "CONTRACT_MINUTES",
    "SOAK_MINUTES",
    "FUZZ_MINUTES",
    "DATABASE_URL",
    "FORWARDED_ALLOW_IPS",
    "NAME_FILE",
    "OBJECT_STORE",
    "OTEL_SERVICE_NAME",
    "OTEL_TRACES_SAMPLER",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "SENTRY_ENVIRONMENT",
    "SENTRY_RELEASE",
    "GUNICORN_CMD_ARGS",
    "DEMO_EXIT",
    "POSTGRES_PASSWORD",
    "AZURE_STORAGE_ACCOUNT_NAME",
    "WORKFLOW_IMPORT_QUEUE_BATCH_ID",  # a field of another system's reply
}
PAGES = [path for path in tracked() if path.suffix == ".md"]
RUN = sorted(path for folder in ("how-to", "explanation") for path in (DOCS / folder).glob("*.md") if of_kind(read(path), "bash"))


def test_the_tutorial_does_what_it_shows(tmp_path: Path, redis_url: str) -> None:
    """Every command of the tutorial works as it stands, in a fresh checkout, and prints what the page shows."""
    folder = checkout(tmp_path / "lading")
    (folder / "var" / "shop").mkdir(parents=True)
    env = demo.environment(tmp_path) | {"REDIS_URL": redis_url, "TARGET_URL": f"sqlite:///{folder}/var/shop/shop.db"}
    with service(tmp_path, env) as stack:
        run_page(DOCS / "tutorial.md", folder, stack)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, valkey: redis.Redis) -> Iterator[Stack]:
    """Give one service to all pages; each has tables and control files of its own. Its workers show in a Redis of their own."""
    folder = tmp_path_factory.mktemp("how-to")
    options = valkey.connection_pool.connection_kwargs
    with service(folder, demo.environment(folder) | {"REDIS_URL": f"redis://{options['host']}:{options['port']}/1"}) as stack:
        yield stack


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_pages_do_what_they_show(page: Path, tmp_path: Path, shared: Stack) -> None:
    """The commands of a page work as they stand, on the tables that it shows."""
    with closing(sqlite3.connect(shared.env["TARGET_URL"].removeprefix("sqlite:///"))) as database:
        for statements in of_kind(read(page), "sql"):
            database.executescript(statements)
    run_page(page, checkout(tmp_path / "lading"), shared)


FOUR_CALLS = """
```bash
api() { curl -sS --fail-with-body -u "api:$KEY" "$@"; }
api -F file=@titles.yaml "$LADING/api/control" > control.txt
batch=$(api -d control=titles "$LADING/api/batch")
api -F batch="$batch" -F name=titles.csv -F file=@titles.csv "$LADING/api/file" > digest.txt
api -d batch="$batch" "$LADING/api/schedule" > scheduled.txt
api "$LADING/api/batch/$batch?wait=60" && echo
```

```text
completed input=2 success=1 error=1 skip=0
```
"""
TITLES = """
name: titles
files:
  titles.csv: {entity: Title, action: Merge}
entities:
- entity: Title
  table: titles
  input: [isbn, author]
  mappings:
  - isbn:
  - author: {converter: {type: CodeReferenceLookup, input: author, column: name}}
"""


@pytest.mark.both_postgresql
def test_the_role_of_the_postgresql_page_suffices(pg_database: str, tmp_path: Path, redis_url: str) -> None:
    """The service starts and imports with the privileges that the page grants, and with no others."""
    with psycopg.connect(pg_database, autocommit=True) as admin:
        admin.execute("CREATE TABLE authors (id serial PRIMARY KEY, name text NOT NULL UNIQUE)")
        admin.execute("CREATE TABLE titles (id serial PRIMARY KEY, isbn text NOT NULL UNIQUE, author_id int NOT NULL REFERENCES authors)")
        admin.execute("INSERT INTO authors (name) VALUES ('Woolf')")
        for statements in of_kind(read(DOCS / "how-to" / "postgresql.md"), "sql"):
            admin.execute(statements.replace("books", pg_database.rpartition("/")[2]))
        url = pg_database.replace("postgres@", "lading@")
        env = demo.environment(tmp_path) | {"REDIS_URL": redis_url, "TARGET_URL": url, "CATALOG_URL": url}
        try:
            with service(tmp_path, env) as stack:
                (tmp_path / "titles.yaml").write_text(TITLES)
                (tmp_path / "titles.csv").write_text("isbn,author\n1,Woolf\n2,Wolf\n")
                (tmp_path / "page.md").write_text(FOUR_CALLS)
                run_page(tmp_path / "page.md", tmp_path, stack)
            [row] = admin.execute("SELECT t.isbn, a.name FROM titles t JOIN authors a ON a.id = t.author_id").fetchall()
            assert row == ("1", "Woolf")
        finally:
            admin.execute("DROP OWNED BY lading CASCADE")
            admin.execute("DROP ROLE lading")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link is a file or folder of the project, and every anchor a heading in it."""
    wrong = []
    for path, anchor in links(read(page)):
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in headings(read(target))):
            wrong.append(f"{path}#{anchor}")
    assert not wrong


def test_every_page_can_be_reached() -> None:
    """From docs/README.md links lead to every page of the docs; a link to a folder leads to all in it."""
    reached: set[Path] = set()
    ahead = [DOCS / "README.md"]
    while ahead:
        page = ahead.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        for path, _ in links(read(page)):
            target = (page.parent / path).resolve() if path else page
            ahead += target.glob("*.md") if target.is_dir() else [target]
    assert {page for page in PAGES if page.is_relative_to(DOCS)} <= reached


def test_commands_that_pages_name_exist() -> None:
    """Every `make` target and every `flask` command that a page names is there."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    said = "\n".join(map(read, PAGES))
    made = set(re.findall(r"(?:^ {4}|`|^|bash -c )make ([a-z-]+)", said, re.MULTILINE))
    assert {"demo", "run", "help", "test"} <= made <= targets
    commands = set(re.findall(r"flask ((?:key|db|control|batch|spool|doctor)(?: [a-z]+)?)", said))
    known = set(re.findall(r"^## flask (.*)$", read(DOCS / "reference" / "commands.md"), re.MULTILINE))
    assert commands - known <= {"key", "db", "control", "batch", "spool"}


def test_the_page_on_platforms_shows_the_procfile() -> None:
    """What it shows is what the Procfile is."""
    assert of_kind(read(DOCS / "how-to" / "heroku.md"), "procfile") == [(ROOT / "Procfile").read_text()]


def test_settings_that_pages_name_exist() -> None:
    """What looks like a setting in a page is one."""
    known = {f.name.upper() for f in fields(Settings)} | OTHER_VARIABLES
    for page in PAGES:
        unknown = set(re.findall(r"`([A-Z]+(?:_[A-Z]+)+)(?:=[^`]*)?`", read(page))) - known
        assert not unknown, page


def test_the_comparison_of_outputs_can_fail() -> None:
    """A shown text matches what was printed only where it is the same but for its dots, which stay within a line."""
    assert is_shown("a ... c\n", "a b c\n") and not is_shown("a ... c\n", "a b d\n") and not is_shown("a ... c\n", "a\nc\n")
    assert links("[a](b.md#c) [d](https://e) [f](#g)\n```text\n[h](i)\n```\n") == [("b.md", "c"), ("", "g")]
    assert headings("# The `!` form: a, b\n") == {"the--form-a-b"}


NIGHTS = """
```bash
curl -sSf -u "api:$KEY" -F file=@guests.yaml "$LADING/api/control" > control.txt
mkdir out
printf 'code\\nG1\\n' > out/guests.csv
examples/nightly.sh guests out/guests.csv && echo "exit status $?"
examples/nightly.sh guests out/guests.csv && echo "exit status $?"
printf 'code,code\\nG1,G2\\n' > out/guests.csv
examples/nightly.sh guests out/guests.csv || echo "exit status $?"
```

```text
batch ...: completed input=1 success=1 error=0 skip=0
exit status 0
batch ...: completed input=1 success=0 error=0 skip=1
exit status 0
batch ...: failed input=1 success=0 error=1 skip=0 code=file_refused
1 Core_ImportFile_FileRefused ...
exit status 1
```

`guests.yaml`:

```yaml
name: guests
files:
  guests.csv: {entity: Guest, action: Merge}
entities:
- entity: Guest
  table: guests
  input: [code]
  mappings:
  - code:
```
"""


def test_the_nightly_script_exits_as_it_says(tmp_path: Path, shared: Stack) -> None:
    """examples/nightly.sh ends with 0 where all is well, or was so before, and with 1 where the run fails."""
    with closing(sqlite3.connect(shared.env["TARGET_URL"].removeprefix("sqlite:///"))) as database:
        database.execute("CREATE TABLE guests (code TEXT PRIMARY KEY)")
    (tmp_path / "page.md").write_text(NIGHTS)
    run_page(tmp_path / "page.md", checkout(tmp_path / "lading"), shared)


OF_ONES_OWN = """
CREATE TABLE authors (id integer PRIMARY KEY, code text NOT NULL UNIQUE);
INSERT INTO authors (code) VALUES ('A1');
CREATE TABLE titles (id integer PRIMARY KEY, isbn text NOT NULL UNIQUE, title text NOT NULL, author_id int REFERENCES authors);
"""


def test_a_file_of_ones_own_tonight(tmp_path: Path, shared: Stack) -> None:
    """The README's commands under "Your own database" import a file as they stand there, without the service and with it."""
    target = shared.env["TARGET_URL"]
    with closing(sqlite3.connect(target.removeprefix("sqlite:///"))) as database:
        database.executescript(OF_ONES_OWN)
    folder = checkout(tmp_path / "lading")
    (folder / "titles.csv").write_text("isbn,title,author_id\n1,One,A1\n")
    section = read(ROOT / "README.md").split("## Your own database")[1].split("\n## ")[0]
    alone, served = ("".join(lines) for lines in re.findall(r"\n\n((?:    .*\n)+)", section))
    script = (alone + served).replace("postgresql://me@localhost/books", target).replace("http://127.0.0.1:8000", shared.address)
    (tmp_path / "page.md").write_text(f"```bash\n{script}```\n\n```text\n{TONIGHT}```\n")
    run_page(tmp_path / "page.md", folder, shared)


TONIGHT = """\
batch ...
#Code,Message,Severity,LineNumber,Properties,EntityId,File
Core_Data_RecordCreated,Record successfully created,Information,2,,,titles.csv
batch ...: completed input=1 success=1 error=0 skip=0
...#Code,Message,Severity,LineNumber,Properties,EntityId,File
Core_Data_RecordCreated,Record successfully created,Information,2,,1,titles.csv
"""
