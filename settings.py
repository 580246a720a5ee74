"""The settings: one frozen object, built from environment variables and nothing else.

A bad value stops the start. Any variable may be given as NAME_FILE instead, the path of a file that holds the value, as secrets are
handed to containers.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from errors import SettingInvalid

UNITS = {"": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def count(text: str) -> int:
    """Read a whole number of at least 1.

    >>> count("5000")
    5000
    """
    if not re.fullmatch(r"[0-9]{1,15}", text, re.ASCII) or int(text) < 1:
        raise ValueError("a whole number of at least 1")
    return int(text)


def size(text: str) -> int:
    """Read a number of bytes, with or without a unit.

    >>> size("1048576") == size("1 MiB") == size("1mib")
    True
    """
    found = re.fullmatch(r"([0-9]{1,15}) ?([KMGT]iB)?", text, re.ASCII | re.IGNORECASE)
    if not found or int(found[1]) < 1:
        raise ValueError("a number of bytes such as 1048576, 512 KiB, 1 MiB, 5 GiB")
    return int(found[1]) * UNITS[(found[2] or "").upper()]


def seconds(text: str) -> float:
    """Read a number of seconds greater than 0.

    >>> seconds("0.5")
    0.5
    """
    if not re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text, re.ASCII) or float(text) <= 0:
        raise ValueError("a number of seconds greater than 0, such as 30 or 0.5")
    return float(text)


def hours(text: str) -> float:
    """Read a number of hours greater than 0."""
    try:
        return seconds(text)
    except ValueError:
        raise ValueError("a number of hours greater than 0, such as 24 or 0.5") from None


def port(text: str) -> int:
    """Read a TCP port."""
    if not re.fullmatch(r"[0-9]{1,5}", text, re.ASCII) or not 1 <= int(text) <= 65535:
        raise ValueError("a port from 1 to 65535")
    return int(text)


def database(text: str) -> str:
    """Read a database's URL; every spelling of PostgreSQL's scheme becomes `postgresql`.

    >>> database("postgres://me@db/books")
    'postgresql://me@db/books'
    """
    scheme, separator, rest = text.partition("://")
    if separator and scheme in ("postgres", "postgresql", "postgresql+psycopg"):
        return f"postgresql://{rest}"
    path = rest.removeprefix("/")
    if not separator or scheme != "sqlite" or path == rest or not path or path.startswith((":memory:", "file:")) or "?" in path:
        raise ValueError("sqlite:///relative/path.db, sqlite:////absolute/path.db, postgresql://user:password@host/name")
    return text


def spool(text: str) -> str:
    """Read the spool's URL: a folder or a bucket that the web and the worker processes share.

    >>> spool("s3://bucket/prefix")
    's3://bucket/prefix'
    """
    if re.fullmatch(r"(s3|gs|az)://[^/?#]+(/[^?#]*)?", text):
        return text
    path = text.removeprefix("file:")
    if path == text or not path.strip("/"):
        raise ValueError("file:relative/folder, file:/absolute/folder, s3://bucket/prefix, gs://bucket/prefix, az://container/prefix")
    return text


def redis(text: str) -> str:
    """Read Redis's URL.

    >>> redis("redis://:secret@host:6379")
    'redis://:secret@host:6379'
    """
    scheme, separator, _ = text.partition("://")
    if not separator or scheme not in ("redis", "rediss", "unix"):
        raise ValueError("redis://host:6379/0, rediss://host:6379/0, unix:///path/of/the/socket")
    return text


def web_address(text: str) -> str:
    """Read the address under which users reach the service; a slash at its end is dropped."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("an address such as https://imports.example.org")
    return text.rstrip("/")


def mail_server(text: str) -> str:
    """Read the URL of a mail server. A password is only sent where the connection is encrypted.

    >>> mail_server("smtp+starttls://me:secret@mail.example.org:587")
    'smtp+starttls://me:secret@mail.example.org:587'
    """
    parts = urlsplit(text)
    is_known = parts.scheme in ("smtp", "smtps", "smtp+starttls") and parts.hostname and parts.path in ("", "/")
    if not is_known or parts.query or parts.fragment or (parts.scheme == "smtp" and parts.username is not None) or not _has_good_port(text):
        raise ValueError("smtp://host:25, smtp+starttls://user:password@host:587, smtps://user:password@host:465")
    return text


def _has_good_port(url: str) -> bool:
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def networks(text: str) -> tuple[IPv4Network | IPv6Network, ...]:
    """Read a list of networks.

    >>> networks("10.1.0.0/16, ::1")
    (IPv4Network('10.1.0.0/16'), IPv6Network('::1/128'))
    """
    try:
        return tuple(ip_network(part.strip()) for part in text.split(","))
    except ValueError:
        raise ValueError("networks with commas between them, such as 10.1.0.0/16,fd00::/8") from None


def ports(text: str) -> tuple[int, ...]:
    """Read a list of TCP ports."""
    return tuple(port(part.strip()) for part in text.split(","))


def mail_address(text: str) -> str:
    """Read one plain mail address."""
    if not re.fullmatch(r"[\w.!#$%&'*+/=?^`{|}~-]+@[\w-]+(\.[\w-]+)*", text, re.ASCII):
        raise ValueError("a mail address such as imports@example.org")
    return text


def secret(text: str) -> str:
    """Read a secret, which must not be short enough to be guessed."""
    if len(text) < 32:
        raise ValueError("at least 32 characters, such as those of `openssl rand -hex 32`")
    return text


def origins(text: str) -> tuple[str, ...]:
    """Read the origins of pages, with commas between them, or `*` for all.

    >>> origins("https://a.example.org, http://localhost:3000")
    ('https://a.example.org', 'http://localhost:3000')
    """
    found = tuple(origin.strip() for origin in text.split(","))
    if found != ("*",) and not all(re.fullmatch(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?", origin) for origin in found):
        raise ValueError("origins such as https://app.example.org, with commas between them and no path, or * for all")
    return found


def log_format(text: str) -> str:
    """Read how log lines are written."""
    if text not in ("logfmt", "json"):
        raise ValueError("logfmt, json")
    return text


def _setting(reader: Callable[[str], Any], default: str | None, about: str, *, also: str | None = None, is_secret: bool = False) -> Any:
    """Describe one setting: how its text is read, its default as text, what it is for, and another variable tried where it is unset."""
    return field(repr=not is_secret, metadata={"reader": reader, "default": default, "about": about, "also": also, "is_secret": is_secret})


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings. Each field's variable is its name in capitals; sizes are in bytes, times in seconds."""

    target_url: str = _setting(
        database, "sqlite:///var/target.db", "The database whose tables the imports fill.", also="DATABASE_URL", is_secret=True
    )
    catalog_url: str = _setting(
        database,
        "sqlite:///var/catalog.db",
        "The database of our own tables. It may be the target's PostgreSQL database, where they lie in a schema `lading`,"
        " but not its SQLite file.",
        also="DATABASE_URL",
        is_secret=True,
    )
    spool_url: str = _setting(
        spool,
        "file:var/spool",
        "The folder of uploaded files and results, or a bucket: `s3://bucket/prefix`, `gs://...`, `az://...`. Web and worker processes must"
        " share it.",
    )
    spool_cache: str = _setting(
        str, "var/spool-cache", "Of a spool in a bucket: the local folder for copies of what was read or sent, and for what is on its way."
    )
    spool_cache_bytes: int = _setting(size, "5 GiB", "How much those copies may take together. What is on its way comes on top.")
    redis_url: str = _setting(
        redis,
        "redis://127.0.0.1:6379/0",
        "The queue. It holds nothing that would be missed."
        " The certificate of a `rediss` server is checked only with `?ssl_cert_reqs=required`.",
        is_secret=True,
    )
    port: int = _setting(
        port, "8000", "The port of the web process. Where PORT is set, it listens on all interfaces, else on 127.0.0.1 only."
    )
    web_concurrency: int = _setting(count, "2", "How many web processes.")
    web_threads: int = _setting(count, "8", "How many threads each web process has; a request, a slow upload too, holds one of them.")
    stall_seconds: float = _setting(seconds, "60", "How long a client may be silent in the middle of a request before it is cut off.")
    min_bytes_per_second: int = _setting(
        size, "1 KiB", "How fast a client must send at least, on the average of STALL_SECONDS of waiting for it; a slower one is cut off."
    )
    secret_key: str | None = _setting(
        secret,
        None,
        "Signs the addresses of direct uploads, which there are none of without it. Sessions of the pages are in the catalog.",
        is_secret=True,
    )
    public_url: str | None = _setting(web_address, None, "The address under which users reach the service, for links.")
    cors_origins: tuple[str, ...] | None = _setting(
        origins,
        None,
        "The origins whose pages may call the API from a browser (CORS): `https://app.example.org`, several with commas, or `*`.",
    )
    max_upload_bytes: int = _setting(size, "5 GiB", "The largest file that may be uploaded.")
    resume_hours: float = _setting(
        hours, "24", "How long an upload in parts waits for its next bytes; one that broke off is forgotten then."
    )
    keep_files_days: int = _setting(
        count, "30", "How long a data file is kept after it was last sent or given to a batch, and after the end of the last run with it."
    )
    temporary_minutes: int = _setting(
        count, "60", "How long a file sent by a handle, and to no directory, is kept. A batch that is made of it keeps it for longer."
    )
    keep_results_days: int = _setting(count, "365", "How long the results of a run are kept after its end. Its counts are kept for good.")
    keep_batches_days: int | None = _setting(
        count, None, "How long a batch is kept after the end of its last run, its status and counts with it. Unset: for good."
    )
    max_control_bytes: int = _setting(size, "1 MiB", "The largest control file.")
    max_field_chars: int = _setting(count, "1048576", "The longest cell of a file, in characters.")
    max_columns: int = _setting(count, "2000", "The most columns that a line may have.")
    max_line_bytes: int = _setting(size, "16 MiB", "The longest record of a file.")
    max_expansion_ratio: int = _setting(count, "100", "How many times its size a compressed file may expand to.")
    max_expanded_bytes: int = _setting(size, "50 GiB", "How much a compressed file may expand to.")
    chunk_records: int = _setting(count, "5000", "The most records that are applied in one transaction.")
    chunk_bytes: int = _setting(size, "8 MiB", "The most bytes of a file that are applied in one transaction.")
    lease_seconds: float = _setting(seconds, "30", "How long a worker that gives no sign of life keeps its batch.")
    heartbeat_seconds: float = _setting(seconds, "5", "How often a worker gives a sign of life. At most half of LEASE_SECONDS.")
    sweep_seconds: float = _setting(seconds, "10", "How often lost work is looked for.")
    wait_cap_seconds: float = _setting(
        seconds, "60", "The longest that a request with `wait` is kept waiting. On platforms that end requests after 30 seconds: 20."
    )
    run_seconds: float | None = _setting(
        seconds, None, "How long a worker may work on a run before it stops it at a chunk border, `timed_out`. Unset: as long as it takes."
    )
    run_attempts: int = _setting(count, "3", "How often a run is tried before it fails.")
    idempotency_hours: int = _setting(count, "24", "How long the first reply to an `Idempotency-Key` is kept.")
    session_idle_minutes: int = _setting(
        count, "60", "How long a session of the pages lasts that nobody uses. None lasts longer than 12 hours."
    )
    smtp_url: str | None = _setting(
        mail_server,
        None,
        "The server that takes mails: `smtp://host:25`, `smtp+starttls://user:password@host:587` or `smtps://user:password@host:465`."
        " Unset: mails wait for it for a day.",
        is_secret=True,
    )
    mail_from: str | None = _setting(mail_address, None, "The address that mails come from. Needed with SMTP_URL.")
    mail_attachment_bytes: int = _setting(
        size, "256 KiB", "The most bytes of refused rows, and of their reasons, that are attached to a mail. If there are more, none are."
    )
    keep_notices_days: int = _setting(count, "30", "How long the list of deliveries tells of a mail or a webhook's request.")
    webhook_ports: tuple[int, ...] = _setting(ports, "443,8443", "The ports that webhooks may have.")
    webhook_networks: tuple[IPv4Network | IPv6Network, ...] | None = _setting(
        networks,
        None,
        "Networks that are not public and that webhooks may reach all the same, on any port, and over http too: `10.1.0.0/16,fd00::/8`."
        " Whoever may import may then have requests sent there.",
    )
    event_outbox_records: int = _setting(
        count,
        "100000",
        "How many events of records may wait in the target for webhooks to take them, and as many more in the catalog;"
        " an import with event handlers waits rather than let there be more.",
    )
    event_patience_seconds: float = _setting(
        seconds, "900", "How long a webhook may take no events of records before it is disabled, so that no import waits for it for ever."
    )
    log_format: str = _setting(log_format, "logfmt", "How log lines are written: `logfmt` or `json`.")

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> Settings:
        """Read all settings; SettingInvalid names the variable, its value and what is allowed."""
        settings = cls(**{f.name: _read(f.name.upper(), f.metadata, env) for f in fields(cls)})
        settings._check()
        return settings

    @classmethod
    def problems(cls, env: Mapping[str, str] = os.environ) -> dict[str, str]:
        """Return what is wrong with each setting that is, by its variable; what is wrong of several together only where each is good."""
        found = {}
        for f in fields(cls):
            try:
                _read(f.name.upper(), f.metadata, env)
            except SettingInvalid as invalid:
                found[f.name.upper()] = str(invalid)
        if not found:
            try:
                cls.from_environment(env)
            except SettingInvalid as invalid:
                found[str(invalid).partition(" ")[0]] = str(invalid)
        return found

    def _check(self) -> None:
        """Refuse settings that are good one by one but not together."""
        if self.heartbeat_seconds * 2 > self.lease_seconds:
            raise SettingInvalid(
                f"HEARTBEAT_SECONDS is {self.heartbeat_seconds:g}, but allowed is at most half of LEASE_SECONDS,"
                f" which is {self.lease_seconds:g}"
            )
        if self.smtp_url and not self.mail_from:
            raise SettingInvalid("MAIL_FROM is unset, but with SMTP_URL it is needed; allowed: a mail address such as imports@example.org")
        target, catalog = sqlite_path(self.target_url), sqlite_path(self.catalog_url)
        if target and catalog and _is_same_file(target, catalog):
            raise SettingInvalid(
                f"CATALOG_URL is {self.catalog_url}, which is the file of TARGET_URL; in one SQLite file a long import would stop the"
                " heartbeats. Allowed: another file, or a PostgreSQL database"
            )


def sqlite_path(url: str) -> Path | None:
    """Return the file that a SQLite URL names, None for other databases.

    >>> sqlite_path("sqlite:////srv/x.db")
    PosixPath('/srv/x.db')
    """
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


def _is_same_file(a: Path, b: Path) -> bool:
    return a.resolve() == b.resolve() or (a.exists() and b.exists() and a.samefile(b))


def _read(name: str, metadata: Mapping[str, Any], env: Mapping[str, str]) -> Any:
    """Read one setting from its variable, the file named by NAME_FILE, the other variable, or the default, in this order."""
    for variable in filter(None, (name, metadata["also"])):
        given = _given(variable, env)
        if given is not None:
            return _parse(variable, given, metadata)
    return None if metadata["default"] is None else metadata["reader"](metadata["default"])


def _given(variable: str, env: Mapping[str, str]) -> str | None:
    """Return a variable's text, from a file if NAME_FILE says so. An empty one counts as unset, as `docker run -e` and Heroku give it."""
    text, path = env.get(variable) or None, env.get(f"{variable}_FILE") or None
    if text is not None and path is not None:
        raise SettingInvalid(f"{variable} and {variable}_FILE are both set; only one of them is allowed")
    if path is None:
        return text
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as problem:
        raise SettingInvalid(f"{variable}_FILE is {path}, which cannot be read ({problem}); allowed: the path of a text file") from problem


def _parse(variable: str, text: str, metadata: Mapping[str, Any]) -> Any:
    try:
        return metadata["reader"](text)
    except ValueError as allowed:
        # A URL may hold a password, and what is wrong with it may be just that it holds an `@` too many: so none of it is shown.
        shown = "***" if metadata["is_secret"] else repr(text)
        raise SettingInvalid(f"{variable} is {shown}, but allowed is: {allowed}") from None
