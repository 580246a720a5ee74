"""What tests of notices share: a real mail server, and an application whose notices go there."""

from __future__ import annotations

import email
import email.policy
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from dev.servers import free_port
from jobs.notices import Notices
from spool import open_spool
from tests.engine_parts import sql
from tests.security_parts import work_off
from tests.web_parts import CONTROL, Web, settings_for

ONE_FILE = CONTROL.replace(b"  more.csv: {entity: Airline, action: Merge}\n", b"").replace(b"required: true", b"min_rows: 0")
TABLE = "CREATE TABLE airlines (carrier varchar(2) PRIMARY KEY, name text NOT NULL)"


@dataclass
class Mailbox:
    """A mail server and what it took."""

    port: int = field(default_factory=free_port)
    mails: list[EmailMessage] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)  # each mail as it came
    to: list[str] = field(default_factory=list)  # of each mail
    answer: str = "250 OK"  # to each recipient
    _controller: Controller | None = None

    @property
    def url(self) -> str:
        """Return what SMTP_URL is to be."""
        return f"smtp://127.0.0.1:{self.port}"

    def start(self, **options: Any) -> None:
        """Listen."""
        self._controller = Controller(self, hostname="127.0.0.1", port=self.port, **options)
        self._controller.start()

    def stop(self) -> None:
        """Listen no more."""
        if self._controller is not None:
            self._controller.stop()
        self._controller = None

    async def handle_RCPT(self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]) -> str:
        """Take a recipient, or not."""
        envelope.rcpt_tos.append(address)
        return self.answer

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:
        """Take a mail."""
        assert isinstance(envelope.content, bytes)
        self.lines.append(envelope.content)
        self.mails.append(email.message_from_bytes(envelope.content, policy=email.policy.default))
        self.to.extend(envelope.rcpt_tos)
        return "250 OK"


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """Give a mail server that listens."""
    made = Mailbox()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def site(target_url: str, tmp_path: Path, redis_url: str, mailbox: Mailbox) -> Iterator[Web]:
    """Give the application with a mail server; once on SQLite, once on PostgreSQL."""
    yield from _site(target_url, tmp_path, redis_url, mailbox)


@pytest.fixture
def lite_site(target_url_sqlite: str, tmp_path: Path, redis_url: str, mailbox: Mailbox) -> Iterator[Web]:
    """Give the same on SQLite, for what no database can change."""
    yield from _site(target_url_sqlite, tmp_path, redis_url, mailbox)


def _site(target_url: str, folder: Path, redis_url: str, mailbox: Mailbox) -> Iterator[Web]:
    sql(target_url, TABLE)
    said = {"SMTP_URL": mailbox.url, "MAIL_FROM": "imports@example.org", "PUBLIC_URL": "https://imports.example.org"}
    made = Web(settings_for(target_url, folder, redis_url, **said))
    made.control(ONE_FILE)
    yield made
    made.close()


def notices_of(web: Web, **options: Any) -> Notices:
    """Return what delivers the notices of an application."""
    return Notices(web.catalog, open_spool(web.settings.spool_url), web.settings, **options)


def tell(web: Web) -> None:
    """Deliver the mails that are due."""
    made = notices_of(web)
    while made.tell_by_mail():
        pass


def imported(web: Web, data: bytes, query: str = "", kind: str = "text/csv") -> int:
    """Import some airlines in one call, to the end, with both addresses; return the batch."""
    addresses = "sendSuccessEmailTo=good@example.org&sendFailureEmailTo=bad@example.org"
    reply = web.post(f"/api/import/airlines?{addresses}{query}", data, content_type=kind)
    assert reply.status_code == 202, reply.text
    work_off(web)
    return int(reply.text)


def texts(mail: EmailMessage) -> tuple[str, str]:
    """Return the plain and the HTML text of a mail."""
    plain, html = mail.get_body(("plain",)), mail.get_body(("html",))
    assert plain is not None and html is not None
    return plain.get_content().replace("\r\n", "\n"), html.get_content()


def attached(mail: EmailMessage) -> dict[str, bytes]:
    """Return what is attached to a mail, by name."""
    return {str(part.get_filename()): part.get_payload(decode=True) for part in mail.iter_attachments()}  # type: ignore[misc]


def certify(host: str, key: Path, certificate: Path) -> None:
    """Make a key and a certificate for a host, signed by itself."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(key), "-out", str(certificate)]
    command += ["-subj", f"/CN={host}", "-days", "1", "-addext", f"subjectAltName=DNS:{host}"]
    subprocess.run(command, check=True, capture_output=True)
