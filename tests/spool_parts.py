"""Helpers for tests of the spool: the same ones for a spool in a folder and for one in a bucket of a real object store."""

from __future__ import annotations

import os
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import spool
from spool import bucket as buckets
from spool.bucket import Bucket, Meta


def send(store: spool.Spool, *parts: bytes, expected: str | None = None, max_bytes: int | None = None) -> tuple[str, int]:
    """Store some bytes."""
    with store.receive(max_bytes) as receiver:
        for part in parts:
            receiver.write(part)
        return receiver.commit(expected)


class Place:
    """Where a spool lies, and how a test looks behind it."""

    def __init__(self, url: str, local: Path) -> None:
        self.url, self.local = url, local

    def open(self) -> spool.Spool:
        """Open the spool, as another process would."""
        return spool.open_spool(self.url, str(self.local))

    @property
    def root(self) -> Path:
        """Return the folder of a spool in a directory."""
        return Path(self.url.removeprefix("file:"))

    @property
    def is_folder(self) -> bool:
        """Tell whether it is a directory."""
        return self.url.startswith("file:")

    def leftovers(self) -> list[str]:
        """Return what there is of partial files."""
        return [path.name for path in ((self.root if self.is_folder else self.local) / "partial").iterdir()]

    def blobs(self) -> list[str]:
        """Return the digests of what is stored, with repetition."""
        if self.is_folder:
            return [path.name for path in (self.root / "sha256").rglob("*") if path.is_file()]
        return [meta.key.rpartition("/")[2] for meta in Bucket(self.url).below("sha256")]

    def alter(self, digest: str, data: bytes) -> None:
        """Put other bytes where a blob is, as a damaged disk would; no copy hides it."""
        if self.is_folder:
            place = self.root / "sha256" / digest[:2] / digest
            place.chmod(0o600)
            place.write_bytes(data)
        else:
            Bucket(self.url).put(f"sha256/{digest[:2]}/{digest}", data)
            (self.local / "sha256" / digest).unlink(missing_ok=True)

    def age(self, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
        """Make all that is stored older; of a bucket, whose clock is its own, its answers are told so."""
        if self.is_folder:
            for path in (self.root / "sha256").rglob("*"):
                then = path.stat().st_mtime - seconds
                os.utime(path, (then, then))
            return
        stored = {meta for part in ("sha256", "used") for meta in Bucket(self.url).below(part)}
        tell = buckets._meta

        def told(found: Any) -> Meta:
            meta = tell(found)
            return replace(meta, modified_at=meta.modified_at - timedelta(seconds=seconds)) if meta in stored else meta

        monkeypatch.setattr(buckets, "_meta", told)


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Give the place of a fresh spool: a folder, and in another run of the test a bucket."""
    url = f"file:{tmp_path}/deep/spool" if request.param == "folder" else request.getfixturevalue("bucket_url")
    return Place(url, tmp_path / "local")


@pytest.fixture
def store(place: Place) -> spool.Spool:
    """Give a fresh spool."""
    return place.open()
