"""Writes the pages of docs/reference that are made from the code: `make docs`. A test holds them to it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

from engine import faults
from settings import Settings

FOLDER = Path(__file__).parent / "reference"
NOTICE = "<!-- Made from the code by `make docs`. -->\n"


def settings_page() -> str:
    """Return the page of all settings."""
    lines = [
        "# Settings",
        "",
        NOTICE,
        "Environment variables, and nothing else. A bad value stops the start, with a message that says what is allowed.",
        "An empty variable counts as unset. Each may be given as `NAME_FILE` instead: the path of a file that holds the value.",
        "Sizes are in bytes, or with a unit: `512 KiB`, `1 MiB`, `5 GiB`.",
        "",
        "| variable | default | |",
        "|---|---|---|",
    ]
    for f in fields(Settings):
        default = f"`{f.metadata['default']}`" if f.metadata["default"] else "unset"
        also = f"`{f.metadata['also']}`, else " if f.metadata["also"] else ""
        lines.append(f"| `{f.name.upper()}` | {also}{default} | {_cell(f.metadata['about'])} |")
    return "\n".join([*lines, ""])


def faults_page() -> str:
    """Return the page of all that the results may say of a record."""
    lines = [
        "# Faults",
        "",
        NOTICE,
        "Every line of the results has one of these codes. `Error` means that the record was refused, the others that it was not.",
        "A name in braces stands for what the message says of the record at hand.",
        "",
    ]
    for code, kind in sorted(faults.CATALOGUE.items()):
        lines += [f"## {code}", "", f"{kind.severity}: *{_cell(kind.message)}*", "", kind.explanation, ""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    """Keep text from being read as Markdown's own signs.

    >>> print(_cell("a|b *c*"))
    a\\|b \\*c\\*
    """
    for sign in "|*<":
        text = text.replace(sign, f"\\{sign}")
    return text


def pages() -> dict[Path, str]:
    """Return what each page must hold."""
    return {FOLDER / "settings.md": settings_page(), FOLDER / "faults.md": faults_page()}


if __name__ == "__main__":
    for path, text in pages().items():
        path.write_text(text, encoding="utf-8")
