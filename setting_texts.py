"""How the text of each kind of setting is read: ValueError says what is allowed."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, IPv6Network, ip_network
from urllib.parse import urlsplit

UNITS = {"": 1, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def count(text: str) -> int:
    """Read a whole number of at least 1.

    >>> count("5000")
    5000
    """
    if not re.fullmatch(r"[0-9]{1,15}", text, re.ASCII) or int(text) < 1:
        raise ValueError("a whole number of at least 1")
    return int(text)


def amount(text: str) -> int:
    """Read a whole number, which may be 0.

    >>> amount("0")
    0
    """
    if not re.fullmatch(r"[0-9]{1,15}", text, re.ASCII):
        raise ValueError("a whole number")
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


def is_of_this_machine(address: str) -> bool:
    """Tell whether an address is of this machine alone, so that what is sent there needs no TLS."""
    return urlsplit(address).scheme == "http" and urlsplit(address).hostname in ("127.0.0.1", "::1", "localhost")


def issuer(text: str) -> str:
    """Read the address of an OpenID provider, to the letter as it calls itself."""
    parts = urlsplit(text)
    if not parts.hostname or parts.query or parts.fragment or not (parts.scheme == "https" or is_of_this_machine(text)):
        raise ValueError("an address such as https://accounts.example.org, as the provider calls itself; http on this machine only")
    return text


def words(text: str) -> tuple[str, ...]:
    """Read a list of words.

    >>> words("importers, Data Team")
    ('importers', 'Data Team')
    """
    found = tuple(word.strip() for word in text.split(","))
    if "" in found:
        raise ValueError("words with commas between them")
    return found


def domains(text: str) -> tuple[str, ...]:
    """Read a list of domains.

    >>> domains("example.org, Example.COM")
    ('example.org', 'example.com')
    """
    found = tuple(word.lower() for word in words(text))
    if not all(re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", domain) for domain in found):
        raise ValueError("domains with commas between them, such as example.org,example.com")
    return found


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


def proxies(text: str) -> tuple[IPv4Network | IPv6Network, ...] | str:
    """Read the networks of proxies, or `*` for all."""
    if text.strip() == "*":
        return "*"
    try:
        return networks(text)
    except ValueError as allowed:
        raise ValueError(f"{allowed}, or *") from None


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


def error_tracker(text: str) -> str:
    """Read the address of a Sentry project, as Sentry gives it (its DSN).

    >>> error_tracker("https://abc@sentry.example.org/7")
    'https://abc@sentry.example.org/7'
    """
    parts = urlsplit(text)
    is_whole = parts.scheme in ("http", "https") and parts.username and parts.hostname and _has_good_port(text)
    if not is_whole or not re.fullmatch(r"(/[\w.-]+)*/[0-9]+", parts.path) or parts.query or parts.fragment:
        raise ValueError("a DSN such as https://abc@sentry.example.org/7")
    return text


def share(text: str) -> float:
    """Read a part of a whole.

    >>> share("0.25")
    0.25
    """
    if not re.fullmatch(r"0|1|[01]?\.[0-9]{1,6}", text) or not 0 <= float(text) <= 1:
        raise ValueError("a number from 0 to 1, such as 0.25")
    return float(text)


def log_format(text: str) -> str:
    """Read how log lines are written."""
    if text not in ("logfmt", "json"):
        raise ValueError("logfmt, json")
    return text
