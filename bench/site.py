"""An installation to measure: target, catalog and spool, and batches that wait in it for a worker."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import catalog
from bench.measure import Command, Failed, Sample
from catalog import batches, controls, files, migrate
from catalog.batches import Options
from engine import control
from engine.target import open_target
from schemas.control import parse
from settings import Settings
from spool import Spool, open_spool


@dataclass
class Site:
    """One installation; its environment is that of its processes."""

    target_url: str
    catalog_url: str
    spool_folder: Path
    more: dict[str, str] = field(default_factory=dict)
    digests: dict[Path, tuple[str, int]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """Return the settings as environment variables."""
        urls = {"TARGET_URL": self.target_url, "CATALOG_URL": self.catalog_url, "SPOOL_URL": f"file:{self.spool_folder}"}
        urls["REDIS_URL"] = "redis://127.0.0.1:1/0"  # nobody there
        return urls | self.more

    @property
    def settings(self) -> Settings:
        """Return the settings."""
        return Settings.from_environment(self.environment)

    @property
    def spool(self) -> Spool:
        """Return the spool."""
        return open_spool(self.settings.spool_url, self.settings.spool_cache, self.settings.spool_cache_bytes)

    def upgrade(self) -> None:
        """Make our tables in catalog and target."""
        migrate.upgrade(self.catalog_url)
        target = open_target(self.target_url)
        target.create_ledger()
        target.close()

    def stored(self, path: Path) -> tuple[str, int]:
        """Return the digest and size of a file, which is in the spool from then on."""
        if path not in self.digests or self.spool.size(self.digests[path][0]) is None:
            with path.open("rb") as file, self.spool.receive() as receiver:
                while piece := file.read(1 << 20):
                    receiver.write(piece)
                self.digests[path] = receiver.commit()
        return self.digests[path]

    def stored_text(self, text: str) -> str:
        """Put a text into the spool; return its digest."""
        with self.spool.receive() as receiver:
            receiver.write(text.encode())
            return receiver.commit()[0]

    def tables(self, text: str) -> list[tuple[str | None, str]]:
        """Return the tables that a control file's entities write."""
        target = open_target(self.target_url)
        try:
            return list(control.compile(parse(text.encode()), target.tables(), target.dialect).tables)
        finally:
            target.close()

    def schedule(self, text: str, paths: Mapping[str, Path], options: Options | None = None) -> int:
        """Schedule a batch of stored files under a control file; return its id. No hint is sent."""
        tables = self.tables(text)
        digest = self.stored_text(text)
        engine = catalog.connect(self.catalog_url)
        try:
            controls.add(engine, digest, key_id="bench", tables=tables)
            batch = batches.create(engine, control=digest, key_id="bench")
            for name, path in paths.items():
                stored, size = self.stored(path)
                files.add(engine, stored, size, key_id="bench", name=name)
                batches.attach(engine, batch, name, stored)
            batches.schedule(engine, batch, options or Options(), tables)
        finally:
            engine.dispose()
        return batch

    def worker(self, batch: int) -> tuple[list[str], dict[str, str]]:
        """Return the command, and its environment, that carries out what waits, ends, and tells of this batch."""
        return [sys.executable, "-m", "bench.work", str(batch)], self.environment


def ours(name: str, site: Site, text: str, paths: Mapping[str, Path], fresh: Callable[[], None], expected: Mapping[str, int]) -> Command:
    """Return the command that imports files as a worker does, into what `fresh()` makes; its counts must be the expected ones."""

    def prepare() -> tuple[list[str], dict[str, str]]:
        fresh()
        return site.worker(site.schedule(text, paths))

    def check(sample: Sample) -> None:
        told = {key: sample.told["counts"][key] for key in expected}
        if told != dict(expected):
            raise Failed(f"{name}: expected {dict(expected)}, but it says {sample.told}")

    return Command(name, prepare, check, reports=True)
