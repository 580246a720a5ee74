"""The settings: one frozen object, built from environment variables and nothing else.

A bad value stops the start. Any variable may be given as NAME_FILE instead, the path of a file that holds the value, as secrets are
handed to containers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

from errors import SettingInvalid
from setting_texts import (
    amount,
    count,
    database,
    domains,
    error_tracker,
    hours,
    issuer,
    log_format,
    mail_address,
    mail_server,
    networks,
    origins,
    port,
    ports,
    proxies,
    redis,
    seconds,
    secret,
    share,
    size,
    spool,
    web_address,
    words,
)


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
    forwarded_allow_ips: tuple[IPv4Network | IPv6Network, ...] | str = _setting(
        proxies,
        "127.0.0.1,::1",
        "The proxies that are believed what they tell of a request: its scheme, and in X-Forwarded-For its address, by which failures are"
        " counted and keys are limited to networks. `*` for all, where nobody but the proxy can reach the service, as is so on Heroku.",
    )
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
    hands: int | None = _setting(
        amount,
        None,
        "How many other workers may help with one large file in PostgreSQL, when they have nothing else to do. 0: none. "
        "Unset: four, and only those on whose machine a processor is idle.",
    )
    run_attempts: int = _setting(count, "3", "How often a run is tried before it fails.")
    idempotency_hours: int = _setting(count, "24", "How long the first reply to an `Idempotency-Key` is kept.")
    session_idle_minutes: int = _setting(
        count, "60", "How long a session of the pages lasts that nobody uses. None lasts longer than 12 hours."
    )
    oidc_issuer: str | None = _setting(
        issuer,
        None,
        "The OpenID provider by which people sign in to the pages, as it calls itself: `https://accounts.google.com`."
        " Needs `requirements-oidc.txt`, OIDC_CLIENT_ID, OIDC_CLIENT_SECRET and PUBLIC_URL.",
    )
    oidc_client_id: str | None = _setting(str, None, "What the service is called at the provider.")
    oidc_client_secret: str | None = _setting(str, None, "By what the provider knows the service.", is_secret=True)
    oidc_scope: str = _setting(str, "openid email profile", "What the provider is asked to tell of a person.")
    oidc_claim: str = _setting(
        str, "groups", "What of that says who may what: `groups`, `roles`, `realm_access.roles`, `email`, `sub`, `hd`. It may be a list."
    )
    oidc_admin: tuple[str, ...] | None = _setting(words, None, "Which values of OIDC_CLAIM give `admin`, with commas between them.")
    oidc_import: tuple[str, ...] | None = _setting(words, None, "Which give `import` and `read`: imports by hand, and what became of them.")
    oidc_read: tuple[str, ...] | None = _setting(
        words, None, "Which give `read:all`: to see everybody's imports. Here, `*` is any value, or none; it needs OIDC_DOMAINS."
    )
    oidc_domains: tuple[str, ...] | None = _setting(
        domains, None, "Let in those only whose mail address, which the provider must have verified, is of one of these domains."
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
    sentry_dsn: str | None = _setting(
        error_tracker, None, "Where errors are told: a project of Sentry. Needs `requirements-observe.txt`.", is_secret=True
    )
    sentry_traces_sample_rate: float = _setting(
        share, "0", "Which share of requests and batches Sentry is told of, for its performance pages: `1` is all."
    )
    otel_exporter_otlp_endpoint: str | None = _setting(
        web_address,
        None,
        "Where requests and batches are told as traces: a collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`."
        " Needs `requirements-observe.txt`. OpenTelemetry's other variables, such as `OTEL_SERVICE_NAME`, hold too.",
    )
    log_format: str = _setting(log_format, "logfmt", "How log lines are written: `logfmt` or `json`.")

    @classmethod
    def from_environment(cls, env: Mapping[str, str] = os.environ) -> Settings:
        """Read all settings; SettingInvalid names the variable, its value and what is allowed."""
        if env.get("DYNO"):
            # A dyno hears from nobody but Heroku's router, whose address is never the same.
            env = {**env, "FORWARDED_ALLOW_IPS": "*"}
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
        lacking = [name for name in ("oidc_client_id", "oidc_client_secret", "public_url") if getattr(self, name) is None]
        if self.oidc_issuer and lacking:
            names = ", ".join(map(str.upper, lacking))
            raise SettingInvalid(f"{names} unset, but with OIDC_ISSUER needed; allowed: what docs/how-to/sign-in.md says")
        if "*" in (*(self.oidc_admin or ()), *(self.oidc_import or ())) or ("*" in (self.oidc_read or ()) and not self.oidc_domains):
            raise SettingInvalid("OIDC_READ, OIDC_IMPORT or OIDC_ADMIN is *, but allowed is that for OIDC_READ only, with OIDC_DOMAINS")
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
