"""Figures: what is measured beside what, the goal, and how both are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table."""

    what: str
    beside: str  # what it is compared with, or its unit
    value: float
    goal: float | None = None
    is_least: bool = False  # the goal is the least that is good, not the most
    note: str = ""

    @property
    def is_met(self) -> bool:
        """Say whether the goal is met, as far as there is one."""
        if self.goal is None:
            return True
        return self.value >= self.goal if self.is_least else self.value <= self.goal

    def cells(self) -> list[str]:
        """Return the table's cells."""
        goal = "" if self.goal is None else f"{'≥' if self.is_least else '≤'} {self.goal:g}"
        met = "" if self.goal is None else "yes" if self.is_met else "**no**"
        return [self.what, self.beside, number(self.value), goal, met, self.note]


HEADER = ["figure", "beside", "measured", "goal", "met", "note"]


def number(value: float) -> str:
    """Show a number with about three digits.

    >>> number(1.2345), number(23.456), number(1234.5)
    ('1.23', '23.5', '1234')
    """
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"
