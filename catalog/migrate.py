"""Making and upgrading the catalog's tables, by Alembic run from here: no ini file, a version table of our own."""


def upgrade(url: str) -> None:
    """Bring the catalog at `url` to the newest version; make it where there is none. Safe to repeat, and to run twice at once."""
