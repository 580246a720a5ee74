"""The pages as a person meets them: in a real browser, on the real service."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from playwright.sync_api import Browser, expect

from dev import demo
from dev.servers import free_port
from dev.stack import ROOT, Stack
from tests.browser_parts import SCHEMES, WIDTHS, Visitor, browser
from tests.docs_parts import service
from tests.oidc_parts import OPTIONS, Provider, running

PICTURES = Path(os.environ["PICTURES"]) if "PICTURES" in os.environ else None  # where they are to be kept, for the docs


AIRLINES = """\
name: airlines
files:
  airlines.csv: {entity: Airline, action: Merge}
entities:
- entity: Airline
  table: airlines
  input: [carrier, name]
  mappings:
  - carrier:
  - name:
"""


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Give one browser to all tests."""
    with browser() as running:
        yield running


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    """Give an OpenID provider, which asks people who they are."""
    with running(Provider(asks=True)) as made:
        yield made


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, valkey: redis.Redis, provider: Provider) -> Iterator[Stack]:
    """Give the service with the demo's tables and its first import."""
    folder = tmp_path_factory.mktemp("pages")
    demo.make_target(folder / "target.db")
    options = valkey.connection_pool.connection_kwargs
    port = free_port()
    env = demo.environment(folder) | {"REDIS_URL": f"redis://{options['host']}:{options['port']}/2"}
    env |= OPTIONS | {"OIDC_ISSUER": provider.address, "PUBLIC_URL": f"http://127.0.0.1:{port}"}
    provider.back = f"{env['PUBLIC_URL']}/sign-in/oidc/back"
    with service(folder, env, port) as started:
        started.env["KEY"] = demo.make_key(started.env)
        yield started


@pytest.fixture(scope="module")
def imported(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Import the demo's files, as its script does, and send a control file of a single table; return what the script said."""
    control = tmp_path_factory.mktemp("control") / "airlines.yaml"
    control.write_text(AIRLINES)
    send(stack, "-F", f"file=@{control}", "/api/control")
    return demo.run_import(stack.address, stack.env["KEY"], tmp_path_factory.mktemp("script"))


@pytest.fixture
def visitor(chromium: Browser, stack: Stack) -> Iterator[Visitor]:
    """Give somebody who is signed in, with all permissions."""
    made = Visitor(chromium, stack)
    made.is_signed_in()
    yield made
    made.close()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Give the folder where pictures go."""
    return PICTURES or tmp_path


def test_signing_in_by_keyboard(chromium: Browser, stack: Stack, tmp_path: Path) -> None:
    """By the address that a command prints, or with nothing but the keyboard with a key, one signs in, and out again."""
    visitor = Visitor(chromium, stack)
    visitor.sign_in()
    visitor.page.get_by_role("button", name="Sign out").click()
    visitor.check_in_all_looks("/sign-in", "sign-in", tmp_path)
    page = visitor.page
    page.get_by_label("API key").press_sequentially(stack.env["KEY"])
    page.keyboard.press("Enter")
    page.wait_for_url(f"{stack.address}/")
    page.get_by_role("button", name="Sign out").press("Enter")
    page.wait_for_url(f"{stack.address}/sign-in")
    visitor.close()


def test_signing_in_at_a_provider(chromium: Browser, stack: Stack, provider: Provider) -> None:
    """Somebody is led to the provider and back to the page that they wanted, and is out again by the button that everybody has."""
    visitor = Visitor(chromium, stack)
    page = visitor.page
    page.goto(f"{stack.address}/files")
    page.get_by_role("link", name="Sign in at 127.0.0.1").press("Enter")
    page.get_by_role("button", name="It is me").click()
    page.wait_for_url(f"{stack.address}/files")
    expect(page.get_by_text("Ada Lovelace (ada)")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url(f"{stack.address}/sign-in")
    page.goto(f"{stack.address}/files")
    page.wait_for_url(f"{stack.address}/sign-in?next=/files")
    assert [wrong for wrong in visitor.wrong if not wrong.startswith(f"asked for {provider.address}")] == []
    visitor.close()


def test_the_list_in_all_looks(visitor: Visitor, imported: str, pictures: Path) -> None:
    """The list of imports keeps to what every page must, in light and dark, on a phone and on a screen."""
    assert imported.startswith("completed")
    visitor.check_in_all_looks("/", "imports", pictures)
    expect(visitor.page.get_by_text("263 created, 20 refused").first).to_be_visible()


def test_the_list_is_live(visitor: Visitor, stack: Stack, imported: str) -> None:
    """What a script sends shows in the open list by itself, and then how it ended; the focus stays where it was."""
    page = visitor.go("/")
    link = page.get_by_role("link", name="Some flights").last
    link.focus()
    file = ROOT / "examples/data/airlines.csv"
    send(stack, "-T", str(file), "/api/import/airlines?fileName=live.csv")
    row = page.get_by_role("row", name="live.csv")
    expect(row).to_contain_text("completed", timeout=30_000)
    expect(row).to_contain_text("16 unchanged")
    expect(link).to_be_focused()
    visitor.check()


FAULTY = "carrier,name\nZ1,First\n,Nobody\nZ3,\n"


def test_the_whole_story(visitor: Visitor, imported: str, pictures: Path, tmp_path: Path) -> None:
    """Import a faulty file by hand, read what is wrong with which row, mend the refused rows, send them again, and see green."""
    page = visitor.page
    first_pass(visitor, FAULTY, tmp_path)
    expect(page.get_by_text("Nothing has been saved")).to_be_visible()
    expect(page.get_by_text("1 created, 2 refused")).to_be_visible()
    visitor.check()
    page.get_by_role("button", name="Import for real").click()
    expect(page.get_by_text("Nothing has been saved")).to_be_hidden(timeout=30_000)
    expect(page.get_by_text("completed")).to_be_visible(timeout=30_000)
    expect(page.locator("details.group")).to_have_count(2)
    for group in page.locator("details.group").all():
        group.locator("summary").click()
    expect(page.locator("mark").filter(has_text="(empty)")).to_have_count(2)
    page.wait_for_load_state("networkidle")
    visitor.check()
    place = page.url.removeprefix(visitor.stack.address)
    visitor.check_in_all_looks(place, "import", pictures)
    visitor.check_in_all_looks(f"{place}/log", "log", tmp_path)
    with page.expect_download() as download:
        visitor.go(place).get_by_role("link", name="rows").click()
    refused = download.value.path().read_text()
    assert refused == "carrier,name\n,Nobody\nZ3,\n"
    mended = refused.replace(",Nobody", "Z2,Nobody").replace("Z3,", "Z3,Third") + "Z1,Renamed\n"
    first_pass(visitor, mended, tmp_path)
    expect(page.locator("ul.changes li")).to_have_text("name: from First → to Renamed")
    place = page.url.removeprefix(visitor.stack.address)
    visitor.check_in_all_looks(place, "first-pass", pictures)
    page.get_by_role("link", name="1 updated").click()
    expect(page.locator("table.log tbody tr")).to_have_count(1)
    visitor.check()
    visitor.go(place)
    page.get_by_role("button", name="Import for real").click()
    expect(page.get_by_text("Nothing has been saved")).to_be_hidden(timeout=30_000)
    expect(page.get_by_text("2 created").first).to_be_visible(timeout=30_000)
    expect(page.get_by_text("What was refused")).to_be_hidden()


def first_pass(visitor: Visitor, data: str, folder: Path) -> None:
    """Take a file through the pages up to the end of its first pass."""
    file = folder / "airlines.csv"
    file.write_text(data)
    page = visitor.go("/import")
    page.get_by_label("Control file", exact=True).select_option("airlines")
    page.get_by_role("button", name="Go on to the files").click()
    page.get_by_label("File, or drop it here").set_input_files(file)
    page.get_by_role("button", name="Send the file").click()
    digest = hashlib.sha256(data.encode()).hexdigest()
    expect(page.get_by_role("listitem").filter(has_text=digest)).to_be_visible()
    visitor.check()
    page.get_by_role("button", name="First pass").click()
    page.get_by_role("button", name="Import for real").wait_for()


def test_a_known_file_is_not_sent_again(visitor: Visitor, imported: str, tmp_path: Path) -> None:
    """The browser computes a file's digest; a file that the service has is given to the import without its bytes."""
    large = tmp_path / "airlines.csv"
    large.write_text("carrier,name\n" + "".join(f"{n},{'x' * 90}\n" for n in range(1000)))
    sent = []
    for _ in range(2):
        visitor.go("/import").get_by_label("Control file", exact=True).select_option("airlines")
        visitor.page.get_by_role("button", name="Go on to the files").click()
        visitor.page.get_by_label("File, or drop it here").set_input_files(large)
        with visitor.page.expect_response(lambda reply: reply.request.method == "POST") as reply:
            visitor.page.get_by_role("button", name="Send the file").click()
        sent.append(int(reply.value.request.all_headers()["content-length"]))
        expect(visitor.page.get_by_text("92.7 KiB")).to_be_visible()
    assert sent[0] > 90_000 and sent[1] < 2000
    visitor.check()


def test_the_editor_tells_faults_as_one_types(visitor: Visitor, imported: str, pictures: Path, tmp_path: Path) -> None:
    """Faults stand beside the editor with their lines as one types; what has none is stored, and its versions can be compared."""
    page = visitor.go("/controls/-/edit?table=airlines")
    editor = page.get_by_label("Control file", exact=True)
    expect(page.get_by_text("No faults.")).to_be_visible()
    good = editor.input_value()
    editor.fill(good.replace("Merge", "Mrge"))
    expect(page.get_by_role("button", name="line 3")).to_be_visible()
    page.get_by_role("button", name="line 3").click()
    expect(editor).to_be_focused()
    assert "Mrge" in page.evaluate("(e => e.value.slice(e.selectionStart, e.selectionEnd))(document.activeElement)")
    visitor.check()
    for comment in ("one", "two"):
        editor.fill(good + f"# {comment}\n")
        page.get_by_label("Name, where").fill("typed")
        page.get_by_role("button", name="Store it").click()
        expect(page.get_by_role("heading", name="typed")).to_be_visible()
        visitor.check()
        if comment == "one":
            page.get_by_role("button", name="Edit").click()
    page.get_by_role("link", name="compare with").click()
    expect(page.locator(".diff .added")).to_have_count(2)
    visitor.check_in_all_looks(page.url.removeprefix(visitor.stack.address), "control-file", tmp_path)
    visitor.check_in_all_looks("/controls/-/edit?table=airlines", "editor", pictures)


def test_trying_a_sample_in_the_editor(visitor: Visitor, imported: str, pictures: Path, tmp_path: Path) -> None:
    """What stands in the editor is tried on lines that are pasted, or on a file; each record tells what it would become, and why not."""
    page = visitor.go("/controls/-/edit?table=airlines")
    page.get_by_label("A few lines of the data").fill("carrier,name\nAA,American Airlines Inc.\nZZ,Zed\n,nobody\n")
    for scheme, width in zip(SCHEMES, reversed(WIDTHS), strict=True):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        page.set_viewport_size({"width": width, "height": 800})
        page.get_by_role("button", name="Try it").click()
        expect(page.locator("#tried .state")).to_have_text(["update if it differs", "create", "refused"])
        visitor.check()
        page.screenshot(path=pictures / f"trial-{scheme}-{width}.png", full_page=True)
    sample = tmp_path / "airlines.csv"
    sample.write_text("carrier,name\nYY,Why\n")
    page.get_by_label("A few lines of the data").fill("")
    page.get_by_label("Sample file").set_input_files(sample)
    page.get_by_role("button", name="Try it").click()
    expect(page.locator("#tried .state")).to_have_text(["create"])
    editor = page.get_by_label("Control file", exact=True)
    editor.fill(editor.input_value().replace("Merge", "Mrge"))
    page.get_by_role("button", name="Try it").click()
    expect(page.locator("#tried")).to_contain_text("line 3: files")
    visitor.check()


@pytest.mark.parametrize("name", ["import", "controls", "files", "keys", "notices", "system"])
def test_the_other_pages_in_all_looks(visitor: Visitor, imported: str, pictures: Path, tmp_path: Path, name: str) -> None:
    """Each page keeps to what every page must, in light and dark, on a phone and on a screen."""
    visitor.check_in_all_looks(f"/{name}", name, tmp_path if name != "system" else pictures)


def test_keys_are_shown_once(visitor: Visitor, stack: Stack) -> None:
    """A new key is shown once and works; revoked, it does not."""
    page = visitor.go("/keys")
    page.get_by_label("Name").fill("by hand")
    page.get_by_label("read", exact=True).check()
    page.get_by_role("button", name="Make the key").click()
    key = page.locator("#new-key").inner_text()
    visitor.check()
    assert ask(stack, key, "/api/batches") == "200"
    visitor.go("/keys")
    expect(page.locator("#new-key")).to_have_count(0)
    page.get_by_role("button", name="Revoke by hand").click()
    expect(page.get_by_role("button", name="Revoke by hand")).to_have_count(0)
    assert ask(stack, key, "/api/batches") == "401"


def ask(stack: Stack, key: str, path: str) -> str:
    """Return the status that a key gets."""
    command = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-u", f"api:{key}", f"{stack.address}{path}"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout


def send(stack: Stack, *words: str) -> str:
    """Call the API as a script does; the last word is the path."""
    *options, path = words
    command = ["curl", "-sS", "--fail-with-body", "-u", f"api:{stack.env['KEY']}", *options, f"{stack.address}{path}"]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=60).stdout
