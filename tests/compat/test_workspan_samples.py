"""The status requests that WorkSpan's samples send, each as its language's client sends it, to the served application."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import urlsplit

import pytest

from dev.servers import free_port
from tests.compat.test_workspan import CONTROL, NAME, ROWS, TABLE
from tests.engine_parts import sql
from tests.security_parts import work_off
from tests.upload_parts import Web as Served, running
from tests.web_parts import Web, settings_for

ORIGIN = "https://app.example.org"


@dataclass
class Bulk:
    """The served application with a finished execution."""

    served: Served
    execution: str

    @property
    def path(self) -> str:
        """Return the address that all samples begin with."""
        return f"/bulk/v1/status/{NAME}?execution_id={self.execution}"

    def ask(
        self, method: str, target: str, headers: dict[str, str], body: bytes | None = None
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        """Send just these headers, and the key; return status, JSON and headers of the reply."""
        connection = HTTPConnection(urlsplit(self.served.url).netloc, timeout=30)
        try:
            connection.putrequest(method, target, skip_accept_encoding=True)
            length = {} if body is None else {"Content-Length": str(len(body))}
            for name, value in ({"Authorization": f"Bearer {self.served.key}"} | headers | length).items():
                connection.putheader(name, value)
            connection.endheaders(body)
            reply = connection.getresponse()
            data = reply.read()
            return reply.status, json.loads(data) if data else {}, {name.title(): value for name, value in reply.getheaders()}
        finally:
            connection.close()


@pytest.fixture(scope="module")
def bulk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bulk]:
    """Give the served application, which lets a page of another origin in, and an execution with three errors."""
    folder = tmp_path_factory.mktemp("bulk")
    url = f"sqlite:///{folder / 'target.db'}"
    sql(url, TABLE)
    with running(folder, 1_000_000, CORS_ORIGINS=ORIGIN) as served:
        (folder / "control.yaml").write_bytes(CONTROL)
        (folder / "rows.json").write_text(json.dumps(ROWS))
        assert served.curl("-F", f"file=@{folder / 'control.yaml'}", "/api/control").endswith(" 200")
        sent = ["-H", "Content-Type: application/json", "--data-binary", f"@{folder / 'rows.json'}"]
        execution = json.loads(served.curl(*sent, f"/bulk/v1/bulkload/{NAME}").removesuffix(" 200"))["execution_id"]
        settings = settings_for(url, folder, f"redis://127.0.0.1:{free_port()}/0")
        work_off(cast(Web, SimpleNamespace(settings=settings)))
        yield Bulk(served, execution)


def look(told: dict[str, Any], execution: str, **expected: Any) -> None:
    """Hold what each sample's reply must be."""
    counts = {name: told[f"{name}_count"] for name in ("input", "success", "error", "skip")}
    assert counts == {"input": 5, "success": 2, "error": 3, "skip": 0}
    assert (told["integration_id"], told["execution_id"], told["status"]) == (NAME, execution, "completed")
    assert {"include_errors": told["include_errors"], "max_errors": told["max_errors"]} == {
        "include_errors": False,
        "max_errors": 10,
    } | expected
    assert "errors" not in told


@pytest.mark.parametrize("body", [[], ["--data-ascii", "{body}"]])
def test_curl(bulk: Bulk, body: list[str]) -> None:
    """Curl's address has two question marks; its body, where one is sent with GET, is passed over."""
    address = f"{bulk.served.url}{bulk.path}?include_errors=false&max_errors=10"
    command = ["curl", "-sSf", "-H", f"Authorization: Bearer {bulk.served.key}", "-X", "GET", address, *body]
    look(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout), bulk.execution)


BODY = b"{body}"
SENT: dict[str, tuple[str, dict[str, str], bytes | None]] = {
    "C#": ("&include_errors=false&max_errors=10", {}, None),
    "Java": (
        "&include_errors=false&max_errors=10",
        {
            "Content-Type": "text/plain; charset=ISO-8859-1",
            "User-Agent": "Apache-HttpClient/4.5 (Java/11)",
            "Accept-Encoding": "gzip,deflate",
        },
        BODY,
    ),
    "JavaScript": (
        "&include_errors=false&max_errors=10&{body}",
        {"Accept": "*/*", "Origin": ORIGIN, "Referer": f"{ORIGIN}/", "Accept-Encoding": "gzip, deflate, br"},
        None,
    ),
    "Objective-C": (
        "?entities=true&include_errors=false&max_errors=10",
        {"Content-Type": "application/x-www-form-urlencoded", "Accept": "*/*", "Accept-Language": "en-us"},
        BODY,
    ),
    "PHP": ("&include_errors=false&max_errors=10", {"User-Agent": "HTTP_Request2/2.5.1", "Accept-Encoding": "gzip, deflate"}, BODY),
    "Python": ("&include_errors=false&max_errors=10", {"Accept-Encoding": "identity"}, BODY),
    "Ruby": (
        "&include_errors=false&max_errors=10",
        {
            "Content-Type": "application/x-www-form-urlencoded",
            "Accept-Encoding": "gzip;q=1.0,deflate;q=0.6,identity;q=0.3",
            "Accept": "*/*",
            "User-Agent": "Ruby",
        },
        BODY,
    ),
}


@pytest.mark.parametrize("language", SENT)
def test_each_language(bulk: Bulk, language: str) -> None:
    """The request of each client is answered as documented, whatever body and names it adds."""
    query, headers, body = SENT[language]
    status, told, _ = bulk.ask("GET", bulk.path + query, headers, body)
    assert status == 200
    look(told, bulk.execution)


def test_php_replaces_the_query(bulk: Bulk) -> None:
    """PHP's client puts its variables in the place of the whole query: without an execution the answer is the documented 400."""
    status, told, _ = bulk.ask("GET", f"/bulk/v1/status/{NAME}?include_errors=false&max_errors=10", SENT["PHP"][1], BODY)
    assert (status, told["detail"]) == (400, "invalid execution_id")


def test_a_browser_asks_first(bulk: Bulk) -> None:
    """Before it sends a key to another origin, a browser asks; both replies let the page in."""
    asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET", "Access-Control-Request-Headers": "authorization"}
    status, _, headers = bulk.ask("OPTIONS", bulk.path + SENT["JavaScript"][0], asked)
    assert (status, headers["Access-Control-Allow-Origin"], headers["Access-Control-Allow-Headers"]) == (204, ORIGIN, "authorization")
    status, _, headers = bulk.ask("GET", bulk.path + SENT["JavaScript"][0], SENT["JavaScript"][1])
    assert (status, headers["Access-Control-Allow-Origin"]) == (200, ORIGIN)


def test_the_same_with_errors(bulk: Bulk) -> None:
    """The same request with include_errors=true tells the errors, as many as are asked for."""
    status, told, _ = bulk.ask("GET", f"{bulk.path}?include_errors=true&max_errors=2", {})
    assert (status, [e["id"] for e in told["errors"]], told["errors"][0]["data_row"]) == (200, ["aw2", "aw3"], ROWS[1])


def test_without_a_key(bulk: Bulk, tmp_path: Path) -> None:
    """Without a key, or with a wrong one, the reply is 401."""
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer x"}):
        assert bulk.ask("GET", bulk.path, headers)[0] == 401
