"""The list of imports: what it shows, to whom, and how little it asks of the catalog for it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event, insert

import clock
from catalog import listing
from catalog.batches import State
from catalog.database import writing
from catalog.keys import Key
from catalog.listing import Filters
from catalog.tables import batches, controls
from tests.pages_parts import Person, words
from tests.security_parts import work_off
from tests.web_parts import CONTROL, Web, lite, web

__all__ = ["lite", "web"]


def titles(person: Person, path: str = "/") -> list[str]:
    """Return the titles of the imports that a page lists."""
    return re.findall(r'<th scope="row".*?<a [^>]*>(.*?)</a>', person.get(path).text, re.DOTALL)


def test_an_empty_list_says_how_to_begin(lite: Web) -> None:
    """Where nothing was imported yet, the list shows the commands that import something, with this service's address."""
    said = words(Person(lite, lite.key, base_url="http://lading.example").get("/"))
    assert "Nothing has been imported yet" in said and "http://lading.example/api/control" in said


def test_the_list_shows_what_became_of_imports(web: Web) -> None:
    """A finished import stands there with its title, control file, state, counts, key and origin."""
    web.post("/api/schedule", {"batch": web.ready(fileName="airlines.csv", comment="every night", creationPath="NIGHTLY")})
    work_off(web)
    said = words(Person(web, web.key).get("/"))
    for word in ("airlines.csv", "every night", "airlines", "completed", "1 created", "a test", "NIGHTLY", "Nothing is running."):
        assert word in said


def test_what_users_send_is_text(lite: Web) -> None:
    """A name, comment or key that looks like a page's code is shown as it is, and run by nobody (T80)."""
    attack = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    lite.batch(fileName=attack, comment=attack + "\u202egpj.exe")
    reply = Person(lite, lite.new_key("admin")).get("/", query_string={"q": "<script>"})
    assert "&lt;script&gt;alert(1)" in reply.text and "<script>alert" not in reply.text and "<img src=x" not in reply.text
    assert "\u202e" not in reply.text
    assert (
        reply.headers["Content-Security-Policy"].startswith("default-src 'self';")
        and "unsafe" not in reply.headers["Content-Security-Policy"]
    )


def test_pages_bring_no_code_of_their_own(lite: Web) -> None:
    """No page has a script, a style or a handler within it, nor anything of another host."""
    person = Person(lite, lite.key)
    lite.batch()
    for path in ("/", "/sign-in"):
        text = person.get(path).text
        assert not re.search(r"<script>|<style|\son\w+=|style=|javascript:|(src|href)=\"?(https?:)?//", text)


def test_filters_narrow_the_list_down(web: Web) -> None:
    """Search, state, control file, key and origin each leave what they say."""
    web.post("/api/schedule", {"batch": web.ready(fileName="Night.csv", creationPath="NIGHTLY")})
    number = web.batch(comment="by day 100%")
    work_off(web)
    admin = web.new_key("admin")
    person = Person(web, admin)
    assert set(titles(person)) == {"Night.csv", "by day 100%"}
    of_web, of_admin = (key.split("_")[1] for key in (web.key, admin))
    found = {
        "q=night": ["Night.csv"], "q=100%25": ["by day 100%"], "q=1%25x": [], f"q={number}": ["by day 100%"],
        "state=completed": ["Night.csv"],
        "origin=NIGHTLY": ["Night.csv"], f"key={of_web}": ["by day 100%", "Night.csv"], f"key={of_admin}": [],
        "control=airlines": ["by day 100%", "Night.csv"],
    }  # fmt: skip
    assert {query: titles(person, f"/?{query}") for query in found} == found
    assert person.get("/?state=none").status_code == person.get("/?cursor=x").status_code == 400
    assert person.get("/?control=none").status_code == 404


def test_batches_of_an_import_queue_are_found(lite: Web) -> None:
    """The longest origin that an import queue's batch may have narrows the list down too, and the link that its reply gave is its page."""
    lite.control(
        CONTROL.replace(b"airlines.csv: {entity: Airline, action: Merge, required: true}", b"DEFAULT: {entity: Airline, action: Merge}")
    )
    query = {"fileName": "ACME", "importProcessId": "airlines", "creationPath": "A" * 15}
    made = lite.post("/API/WorkflowImportQueue/CreateBatch", b"{}", query_string=query, content_type="").get_json()
    person = Person(lite, lite.key)
    assert person.get(made["link"].removeprefix("http://localhost")).status_code == 200
    assert titles(person, f"/?origin=IMPORT_QUEUE_API:{'A' * 15}") == ["ACME"] and titles(person, "/?origin=AAA") == []


def test_older_imports_are_pages_away(lite: Web) -> None:
    """25 imports fill a page; the next one goes on exactly there."""
    for number in range(30):
        lite.batch(fileName=f"{number}.csv")
    person = Person(lite, lite.key)
    first = titles(person)
    older = re.search(r'href="(/\?cursor=[^"]*)" rel="next"', person.get("/").text)
    assert older and first + titles(person, older[1]) == [f"{number}.csv" for number in reversed(range(30))]


def test_each_key_sees_its_own(web: Web) -> None:
    """The list of a key that may read shows its own imports only; `read:all` and `admin` see everybody's (T58)."""
    web.batch(fileName="mine.csv")
    assert titles(Person(web, web.key)) == ["mine.csv"]
    assert titles(Person(web, web.new_key("read"))) == []
    assert titles(Person(web, web.new_key("read:all"))) == titles(Person(web, web.new_key("admin"))) == ["mine.csv"]


def many_batches(engine: Engine, count: int) -> None:
    """Put batches into the catalog, a second apart."""
    with writing(engine) as connection:
        made = clock.now() - timedelta(days=30)
        control = {"digest": "0" * 64, "comment": "", "key_id": "k", "created_at": made, "tables": []}
        connection.execute(insert(controls), control)
        of_all: dict[str, Any] = {
            "control": "0" * 64,
            "comment": "",
            "creation_path": "",
            "addresses": [],
            "key_id": "k",
            "state": "uploading",
        }
        of_all |= {"run": 0, "fence": 0, "is_cancel_wanted": False}
        for start in range(0, count, 5000):
            rows = [
                of_all | {"id": n + 1, "file_name": f"{n}.csv", "created_at": made + timedelta(seconds=n)}
                for n in range(start, min(start + 5000, count))
            ]
            connection.execute(insert(batches), rows)


@pytest.mark.parametrize(("permission", "filters"), [("read", Filters()), ("admin", Filters()), ("admin", Filters(state=State.UPLOADING))])
def test_the_list_costs_the_same_however_many_there_are(lite: Web, permission: str, filters: Filters) -> None:
    """The first page, and one far down, take as many steps of the database with 20,000 batches as with 200: an index leads there."""
    key = Key("k", "", frozenset({permission}), {}, clock.now(), None, None, None)
    steps = [0]

    def count_steps(connection: object, *_: object) -> None:
        def step() -> int:
            steps[-1] += 1
            return 0

        connection.set_progress_handler(step, 1)  # type: ignore[attr-defined]

    event.listen(lite.catalog, "checkout", count_steps)

    def work(after: int | None) -> int:
        steps.append(0)
        place = None
        if after is not None:
            place = next((b.created_at, b.id) for b in listing.newest(lite.catalog, key, filters, limit=after + 1)[after:])
            steps[-1] = 0
        found = listing.newest(lite.catalog, key, filters, after=place, limit=26)
        assert len(found) == 26
        return steps[-1]

    many_batches(lite.catalog, 200)
    few = work(None), work(100)
    with writing(lite.catalog) as connection:
        connection.execute(batches.delete())
        connection.execute(controls.delete())
    many_batches(lite.catalog, 20_000)
    assert [many / small for many, small in zip((work(None), work(15_000)), few, strict=True)] == pytest.approx([1, 1], abs=0.2)
