"""The reference of control files says all that there is, and its examples work."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.control import mappings
from engine.converters import CONVERTERS
from schemas import control
from tests import control_parts
from tests.control_parts import Made

made = control_parts.made
PAGE = (Path(__file__).parent.parent / "docs" / "reference" / "control-file.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
SHAPES = [control.ControlFileShape, control.FileShape, control.EntityShape, control.MappingShape, control.ConverterShape]
INPUTS = (
    "amount, big, born, country, details, email, full_name, last_seen, level, name, raw, region, region_code, resource, seen, ssn, trade"
)


def words() -> set[str]:
    """Return every word that a control file may use."""
    found = {key for shape in SHAPES for key in shape().fields}
    found |= {option for converter in CONVERTERS.values() for option in converter.options}
    return found.union(mappings.types(), control.ACTIONS, control.EMPTY_WORDS, control.MISSING_WORDS, control.READ_WORDS, control.FILTERS)


@pytest.mark.parametrize("word", sorted(words()))
def test_every_word_is_explained(word: str) -> None:
    """Each key, option, converter, filter and word stands in the reference as code."""
    assert re.search(rf"`({re.escape(word)}|\w+: {re.escape(word)})`", PAGE)


def test_the_options_of_every_converter_stand_in_its_row() -> None:
    """The row of each converter lists its options, all of them and no others."""
    for name, converter in CONVERTERS.items():
        [options] = re.findall(rf"^\| `{name}` \|([^|]*)\|", PAGE, re.MULTILINE)
        assert set(re.findall(r"`(\w+)`", options)) == set(converter.options), name


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_compile(made: Made, example: str) -> None:
    """Every example is a control file that compiles, or the mappings of a table that do."""
    table = re.match(r"# mappings of (\w+)\n", example)
    if table:
        lines = "".join(f"  {line}\n" for line in example.splitlines())
        example = f"entities:\n- entity: X\n  table: {table[1]}\n  input: [{INPUTS}]\n  mappings:\n{lines}"
    assert made.compile(example).entities


def test_there_are_examples() -> None:
    """The test before this one finds the examples."""
    assert len(EXAMPLES) >= 8


def test_the_example_of_a_fault_is_true(made: Made) -> None:
    """The message that the reference shows is the one that is said."""
    text = """
entities:
- entity: Airline
  table: airlines
  input: [carrier, name]
  # nothing else
  mappings:
  - carrier:
  - nmae: {input: name}
"""
    [problem] = made.problems(text)
    assert f"\n{problem}\n" in PAGE


def test_internal_links_lead_somewhere() -> None:
    """Each link within the page is the heading of one of its sections."""
    headings = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", PAGE, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]*)\)", PAGE)) <= headings
