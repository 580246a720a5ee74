"""A mail that says how a batch ended: what stands in it, and how it is handed to the mail server.

What users and data say gets into texts only: escaped in HTML, on one line in headers, and harmless to spreadsheets in what is attached.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.policy import SMTP as MAIL_LINES
from email.utils import format_datetime, make_msgid
from html import escape
from urllib.parse import unquote, urlsplit

import clock
from catalog.batches import Batch, Mode, State
from engine.rollup import Group
from jobs.attachments import Attachment

TIMEOUT_SECONDS = 30.0  # for each answer of the mail server
TEST_SECONDS = 5.0  # the same for a test, for which somebody waits
SUBJECT_CHARS = 120
GROUPS_SHOWN = 10
COUNTS = ("input", "created", "updated", "deleted", "skipped", "errors", "unprocessed")


@dataclass(frozen=True, slots=True)
class Report:
    """What is told of a batch."""

    batch: Batch  # with the run that ended
    control: str  # the control file's name, or else its digest
    groups: Sequence[Group]  # its errors rolled up, the most frequent first
    attachments: Sequence[Attachment]
    said_of_rows: str  # what is, or is not, attached
    link: str | None  # to the batch's page


def is_success(batch: Batch) -> bool:
    """Tell whether nothing went wrong: the batch completed, and no record was refused."""
    return batch.run is not None and batch.run.state is State.COMPLETED and not batch.counts.errors


def message(report: Report, *, sender: str, recipient: str, delivery_id: str) -> EmailMessage:
    """Write the mail. Its Message-ID is the delivery's, so that a second one of the same can be told to be one."""
    mail = EmailMessage(policy=MAIL_LINES)
    mail["From"], mail["To"] = sender, recipient
    mail["Subject"] = one_line(f"{_outcome(report.batch)}: {_title(report)}", SUBJECT_CHARS)
    mail["Date"] = format_datetime(clock.now())
    mail["Message-ID"] = f"<{delivery_id}@{sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: nobody's machine should answer
    mail.set_content(_text(report))
    mail.add_alternative(_html(report), subtype="html")
    for attachment in report.attachments:
        main, _, sub = attachment.content_type.partition("/")
        mail.add_attachment(attachment.content, maintype=main, subtype=sub, filename=attachment.name)
    return mail


def one_line(text: str, most: int) -> str:
    r"""Return a text as a header may hold it: on one line, without control characters, and not too long.

    >>> one_line("Import\r\nBcc: everybody@example.org", 120)
    'Import Bcc: everybody@example.org'
    """
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain if len(plain) <= most else f"{plain[: most - 3]}..."


def send(mail: EmailMessage, server: str) -> None:
    """Hand a mail to the server that a URL names. Raises OSError (of which SMTPException is one) where it does not take it."""
    with connected(server, str(mail["From"])) as client:
        client.send_message(mail)


def send_test(to: Sequence[str], *, sender: str, server: str) -> None:
    """Send a mail that says only that it has come. Raises OSError where the server does not take it for all of them."""
    mail = EmailMessage(policy=MAIL_LINES)
    mail["From"], mail["To"], mail["Subject"] = sender, ", ".join(to), "A test of Lading's mails"
    mail["Date"], mail["Message-ID"] = format_datetime(clock.now()), make_msgid(domain=sender.rpartition("@")[2])
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content("This mail was sent to see whether mails about imports arrive. They do.\n")
    with connected(server, sender, TEST_SECONDS) as client:
        refused = client.send_message(mail)
    if refused:
        raise OSError(f"it refused {', '.join(refused)}")


@contextmanager
def connected(server: str, sender: str, timeout_seconds: float = TIMEOUT_SECONDS) -> Iterator[smtplib.SMTP]:
    """Give a connection to the server that a URL names, encrypted and signed in to as the URL says. Raises OSError."""
    parts = urlsplit(server)
    host, domain = parts.hostname or "", sender.rpartition("@")[2]
    encrypted = ssl.create_default_context()
    if parts.scheme == "smtps":
        client: smtplib.SMTP = smtplib.SMTP_SSL(host, parts.port or 465, domain, timeout=timeout_seconds, context=encrypted)
    else:
        client = smtplib.SMTP(host, parts.port or (587 if parts.scheme == "smtp+starttls" else 25), domain, timeout=timeout_seconds)
    with client:
        if parts.scheme == "smtp+starttls":
            client.starttls(context=encrypted)
        if parts.username is not None:
            client.login(unquote(parts.username), unquote(parts.password or ""))
        yield client


# Its texts --------------------------------------------------------------------------------------------------------------
def _outcome(batch: Batch) -> str:
    state = batch.run.state if batch.run else batch.state
    said = f"completed, {batch.counts.errors} refused" if state is State.COMPLETED and batch.counts.errors else str(state)
    return f"{'Dry run' if batch.mode is Mode.DRY_RUN else 'Import'} {said}"


def _title(report: Report) -> str:
    return report.batch.file_name or report.batch.comment or report.control


def _facts(report: Report) -> list[tuple[str, str]]:
    batch = report.batch
    facts = [
        ("Batch", str(batch.id)), ("Title", _title(report)), ("Control file", report.control), ("Comment", batch.comment),
        ("Origin", batch.creation_path), ("Reason", batch.status_msg), *((name, str(getattr(batch.counts, name))) for name in COUNTS),
    ]  # fmt: skip
    return [(name, " ".join(value.split())) for name, value in facts if value]


def _errors(report: Report) -> list[tuple[str, str]]:
    """Return the most frequent errors, each with how often and where first."""
    errors = []
    for group in report.groups[:GROUPS_SHOWN]:
        where = ", ".join(f"{file} line {line}" for file, line in group.lines[:3])
        more = ", ..." if group.count > min(len(group.lines), 3) else ""
        errors.append((f"{group.count} x {' '.join(group.example.split())}", f"{where}{more}"))
    if len(report.groups) > GROUPS_SHOWN:
        errors.append((f"and {len(report.groups) - GROUPS_SHOWN} kinds of errors more", ""))
    return errors


def _text(report: Report) -> str:
    lines = [f"{_outcome(report.batch)}: {_title(report)}", ""]
    lines += [f"{name}: {value}" for name, value in _facts(report)]
    if report.groups:
        lines += ["", "Errors:", *(f"- {said}{f' ({where})' if where else ''}" for said, where in _errors(report))]
    if report.said_of_rows:
        lines += ["", report.said_of_rows]
    if report.link:
        lines += ["", report.link]
    return "".join(f"{''.join(c if c.isprintable() else ' ' for c in line)}\n" for line in lines)


def _html(report: Report) -> str:
    rows = "".join(f"<tr><th align='left'>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in _facts(report))
    parts = [f"<h1>{escape(_outcome(report.batch))}: {escape(_title(report))}</h1>", f"<table>{rows}</table>"]
    if report.groups:
        items = "".join(f"<li>{escape(said)}{f' ({escape(where)})' if where else ''}</li>" for said, where in _errors(report))
        parts.append(f"<h2>Errors</h2><ul>{items}</ul>")
    if report.said_of_rows:
        parts.append(f"<p>{escape(report.said_of_rows)}</p>")
    if report.link:
        parts.append(f'<p><a href="{escape(report.link)}">{escape(report.link)}</a></p>')
    return f"<!doctype html><html><body>{''.join(parts)}</body></html>\n"
