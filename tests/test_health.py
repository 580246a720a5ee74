"""What `/readyz` tells of parts that neither work nor fail, but say nothing."""

from __future__ import annotations

import threading
import time

import pytest

from routes import health
from tests.web_parts import Web, lite

__all__ = ["lite"]


def test_a_part_that_does_not_answer(lite: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for long, is asked once however many ask for it meanwhile, and is well as soon as it answers."""
    answers, asked = threading.Event(), []

    def probe() -> None:
        asked.append(1)
        answers.wait(30)

    monkeypatch.setitem(health.PROBES, "target", probe)
    monkeypatch.setattr(health, "ANSWER_SECONDS", 0.5)
    began = time.monotonic()
    for _ in range(3):
        assert {"catalog: ok", "target: does not answer"} <= set(lite.get("/readyz").text.splitlines())
    assert (len(asked), time.monotonic() - began < 10) == (1, True)
    answers.set()
    monkeypatch.setattr(health, "ANSWER_SECONDS", 20)
    assert "target: ok" in lite.get("/readyz").text
