"""The corpus of the fuzzers, replayed: what once broke something, and what reaches each branch."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_holds(target: str) -> None:
    """What the fuzzers kept breaks nothing, each file of it (T66-T73, T78, T79)."""
    kept = sorted((CORPUS / target).iterdir())
    assert len(kept) > 10
    for path in kept:
        try:
            TARGETS[target](path.read_bytes())
        except Exception as error:
            error.add_note(f"with {path.name}")
            raise


@pytest.mark.parametrize("target", TARGETS)
def test_any_bytes_hold(target: str) -> None:
    """Bytes drawn at random, some of them altered from the corpus, break nothing (T66-T73, T78, T79)."""
    kept = [path.read_bytes() for path in sorted((CORPUS / target).iterdir())]

    @settings(max_examples=60, deadline=None)
    @given(st.binary(max_size=300), st.sampled_from(kept), st.integers(0, 300), st.integers(0, 300))
    def try_it(drawn: bytes, seed: bytes, begin: int, end: int) -> None:
        TARGETS[target](drawn)
        TARGETS[target](seed[:begin] + drawn[:20] + seed[end:])

    try_it()
