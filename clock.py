"""The one clock: every time in Lading is an aware UTC datetime from here, so that tests can set it."""

from datetime import UTC, datetime


def now() -> datetime:
    """Return the present instant, aware, in UTC."""
    return datetime.now(UTC)
