"""The target in SQLite."""
