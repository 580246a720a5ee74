"""The service holds to its description, whatever Schemathesis thinks of in less than a minute."""

from __future__ import annotations

from pathlib import Path

from tests.contract.run import run

SECONDS = 30


def test_schemathesis_finds_nothing(tmp_path: Path, redis_url: str) -> None:
    """No request gets a failure, or a status, type, header or shape that is not described, and bad ones are refused (T81, T82)."""
    done = run(tmp_path, redis_url, SECONDS, "--generation-deterministic")
    assert done.returncode == 0, done.stdout
    assert " generated" in done.stdout and "Selected: " in done.stdout
