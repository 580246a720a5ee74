"""Loading a million rows into PostgreSQL, beside `psql \\copy` and a staged upsert of the same rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bench import data
from bench.databases import Postgres, category_file
from bench.figures import Figure
from bench.measure import Command, Failed, Sample, in_turns, median
from bench.site import Site, ours
from bench.suites import Options, workplace

LISTED = ", ".join(data.COLUMNS)
NAMES = ["clean", "clean-resolved", "bad", "check", "changed", "changed-resolved"]
RUN = "run"  # the database that every run finds anew
UPSERT = f"INSERT INTO item ({LISTED}) SELECT {LISTED} FROM staged ON CONFLICT (code) DO UPDATE SET " + ", ".join(
    f"{name} = excluded.{name}" for name in data.COLUMNS[1:]
)


def control(action: str) -> str:
    """Return the control file for an action."""
    return data.CONTROL.replace("ACTION", action)


class Items:
    """The server with its two templates, `empty` and `filled`, and the ways to load items into a copy of them."""

    def __init__(self, server: Postgres, options: Options, folder: Path, names: Sequence[str] = NAMES) -> None:
        self.server, self.options = server, options
        self.files = data.generated(options.rows, names)
        self.site = Site(server.url(RUN), server.url(RUN), folder / "spool")
        self._content = ""
        self._make_empty(folder)

    def _make_empty(self, folder: Path) -> None:
        self.server.create(RUN)
        self.site.upgrade()
        self.server.execute(RUN, data.TABLES["postgresql"])
        self.server.copy(RUN, "category", category_file(folder), ["code", "name"])
        self.server.create("empty", RUN)

    def fill(self) -> None:
        """Make the template that holds all clean rows."""
        self.server.create(RUN, "empty")
        self.server.copy(RUN, "item", self.files["clean-resolved"], data.COLUMNS)
        self.server.create("filled", RUN)

    def fresh(self, template: str) -> Callable[[], None]:
        """Return what makes the database anew."""
        return lambda: self.server.create(RUN, template)

    def psql(self, name: str, template: str, statements: Sequence[str]) -> Command:
        """Return the command that has psql carry out statements in one session."""

        def prepare() -> tuple[list[str], dict[str, str]]:
            self.server.create(RUN, template)
            words = [word for statement in statements for word in ("-c", statement)]
            return [self.server.psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", self.server.url(RUN), *words], {}

        return Command(name, prepare, self.check_content if name == "copy" else lambda sample: None)

    def ours(self, name: str, file: str, action: str, template: str, **expected: int) -> Command:
        """Return the command that imports one of the files."""
        command = ours(name, self.site, control(action), {"items.csv": self.files[file]}, self.fresh(template), expected)
        if file != "clean":
            return command

        def check(sample: Sample) -> None:
            command.check(sample)
            self.check_content(sample)

        return Command(name, command.prepare, check, reports=True)

    def check_content(self, _sample: Sample) -> None:
        """Clean rows must be in the table as \\copy has them there, whoever loads them."""
        sums = f"SELECT count(*), sum(hashtextextended(({LISTED})::text, 0)) FROM item"
        content = str(self.server.execute(RUN, sums))
        self._content = self._content or content
        if content != self._content:
            raise Failed(f"the table holds {content}, not {self._content}")


def insert(server: Postgres, options: Options) -> list[Figure]:
    """Measure loads into an empty table beside \\copy, which is given the categories' ids."""
    with workplace() as folder:
        items = Items(server, options, folder, ["clean", "clean-resolved", "bad", "check"])
        rows, bad, check = options.rows, data.count_of("bad", options.rows), data.count_of("check", options.rows)
        copy = f"\\copy item({LISTED}) from '{items.files['clean-resolved']}' csv header"
        samples = in_turns(
            [
                items.psql("copy", "empty", [copy]),
                items.ours("merge", "clean", "Merge", "empty", created=rows, errors=0),
                items.ours("insert", "clean", "Insert", "empty", created=rows, errors=0),
                items.ours("bad", "bad", "Merge", "empty", created=rows - bad, errors=bad),
                items.ours("check", "check", "Merge", "empty", created=rows - check, errors=check),
            ],
            options.rounds,
        )
    base = median(samples["copy"])
    beside = f"`psql \\copy` ({base:.2f} s)"

    def figure(name: str, what: str, goal: float) -> Figure:
        return Figure(f"PostgreSQL: {what}", beside, median(samples[name]) / base, goal)

    return [
        figure("merge", "merge of new, clean rows", 1.3),
        figure("insert", "insert of new, clean rows", 1.3),
        figure("bad", "merge of new rows, 1 % bad", 1.6),
        figure("check", "merge of new rows, 10 % refused only by a CHECK", 2.5),
    ]


def upsert(server: Postgres, options: Options) -> list[Figure]:
    """Measure merges into a table that holds all the rows, beside a plain staged upsert, which is given the categories' ids."""
    with workplace() as folder:
        items = Items(server, options, folder, ["clean", "clean-resolved", "changed", "changed-resolved"])
        items.fill()

        def staged(name: str) -> list[str]:
            stage = f"CREATE TEMP TABLE staged AS SELECT {LISTED} FROM item WITH NO DATA"
            return [stage, f"\\copy staged from '{items.files[name]}' csv header", UPSERT]

        samples = in_turns(
            [
                items.psql("staged upsert of the same rows", "filled", staged("clean-resolved")),
                items.ours("unchanged", "clean", "Merge", "filled", skipped=options.rows, errors=0),
                items.psql("staged upsert of changed rows", "filled", staged("changed-resolved")),
                items.ours("changed", "changed", "Merge", "filled", updated=options.rows, errors=0),
            ],
            options.rounds,
        )
    same, changed = median(samples["staged upsert of the same rows"]), median(samples["staged upsert of changed rows"])
    beside = "staged `INSERT ... ON CONFLICT DO UPDATE` ({:.2f} s)"
    return [
        Figure("PostgreSQL: merge of an unchanged file", beside.format(same), median(samples["unchanged"]) / same, 0.75),
        Figure("PostgreSQL: merge, every row changed", beside.format(changed), median(samples["changed"]) / changed, 1.4),
    ]
