"""The pictures of docs/explanation/performance.md: bars, as SVG, drawn from the tables of docs/benchmarks.md.

.venv/bin/python -m bench.plots
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDTH, LABELS, BAR, GAP, TOP, RIGHT = 820, 430, 18, 10, 64, 64  # pixels
STYLE = """\
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .title { font-weight: 600 } .about, .tick { fill: #59636e }
.back { fill: #ffffff } .bar { fill: #4a7fb5 } .line { stroke: #59636e; stroke-dasharray: 4 3 } .goal { stroke: #b35900; stroke-width: 2 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .about, .tick { fill: #9198a1 }
.back { fill: #0d1117 } .bar { fill: #5b8fc7 } .line { stroke: #9198a1 } .goal { stroke: #e3a04f }
}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """One measured figure."""

    label: str
    value: float
    goal: float | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """Bars of one unit."""

    title: str
    about: str
    bars: Sequence[Bar]
    mark: float | None = None  # where a line crosses all bars: what they are compared with


def write(page: str, folder: Path) -> None:
    """Write the pictures that the page's tables give."""
    for name, picture in drawn(page).items():
        (folder / name).write_text(picture, encoding="utf-8")


def drawn(page: str) -> dict[str, str]:
    """Return the pictures by the names of their files; a chart of which nothing is measured is left out."""
    return {f"bench-{name}.svg": svg(chart) for name, chart in charts(page).items() if chart.bars}


def charts(page: str) -> dict[str, Chart]:
    """Make charts of the page's tables."""
    figures = rows(page, "figure")
    bare = "1 is the bare way beside it; a stroke is the goal"
    return {
        "postgresql": Chart("PostgreSQL: time that a load takes", bare, _bars(figures, "PostgreSQL: ", r" s\)$"), 1),
        "sqlite": Chart("SQLite: time that a load takes", bare, _bars(figures, "SQLite: ", r" s\)$"), 1),
        "memory": Chart("Memory", "MiB at the most; a stroke is the goal", _bars(figures, "", r"^MiB$")),
        "small": Chart("A batch of ten rows", "milliseconds; a stroke is the goal", _bars(figures, "", r"^ms$")),
        "importers": Chart("Other importers", "seconds for 100,000 clean rows, interpreters' start included", _importers(page)),
    }


def rows(page: str, first: str) -> list[list[str]]:
    """Return the rows of the page's table whose header begins with this cell.

    >>> rows("| a | b |\\n|---|---|\\n| 1 | 2 |\\n\\n| c |\\n", "a")
    [['1', '2']]
    """
    found = re.search(rf"^\| {first} \|.*\n\|[-|]+\n((?:\|.*\n)*)", page, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in found[1].splitlines()] if found else []


def _bars(figures: Sequence[Sequence[str]], start: str, beside: str) -> list[Bar]:
    chosen = [
        cells for cells in figures if cells[0].startswith(start) and re.search(beside, cells[1]) and "same rows as CSV" not in cells[1]
    ]
    return [Bar(cells[0].removeprefix(start), float(cells[2]), _goal(cells[3])) for cells in chosen]


def _importers(page: str) -> list[Bar]:
    return [Bar(f"{cells[0]}, {cells[1]}", float(cells[2])) for cells in rows(page, "importer")]


def _goal(cell: str) -> float | None:
    return float(cell[2:]) if cell.startswith("≤") else None


def svg(chart: Chart) -> str:
    """Draw a chart; it is as legible on a dark page as on a light one."""
    height = TOP + len(chart.bars) * (BAR + GAP) + GAP
    most = max([*(bar.value for bar in chart.bars), *(bar.goal or 0 for bar in chart.bars), chart.mark or 0])
    scale = (WIDTH - LABELS - RIGHT) / most
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">',
        f"<title>{_text(chart.title)}: {_text(chart.about)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{height}" rx="6"/>',
        f'<text class="title" x="16" y="26">{_text(chart.title)}</text>',
        f'<text class="about" x="16" y="46">{_text(chart.about)}</text>',
        *(line for number, bar in enumerate(chart.bars) for line in _drawn(bar, TOP + number * (BAR + GAP), scale)),
        *(_line("line", LABELS + chart.mark * scale, TOP - 4, height - GAP) for _ in [0] if chart.mark),
        "</svg>",
        "",
    ])  # fmt: skip


def _drawn(bar: Bar, y: int, scale: float) -> Iterator[str]:
    middle = y + BAR - 5
    yield f'<text x="{LABELS - 8}" y="{middle}" text-anchor="end">{_text(bar.label)}</text>'
    yield f'<rect class="bar" x="{LABELS}" y="{y}" width="{bar.value * scale:.1f}" height="{BAR}"/>'
    if bar.goal is not None:
        yield _line("goal", LABELS + bar.goal * scale, y - 3, y + BAR + 3)
    yield f'<text x="{WIDTH - 16}" y="{middle}" text-anchor="end">{bar.value:g}</text>'


def _line(kind: str, x: float, top: float, bottom: float) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{bottom}"/>'


def _text(text: str) -> str:
    return escape(text.replace("`", "").replace("\\", ""), quote=False)


if __name__ == "__main__":
    docs = Path(__file__).parent.parent / "docs"
    write((docs / "benchmarks.md").read_text(encoding="utf-8"), docs / "pictures")
