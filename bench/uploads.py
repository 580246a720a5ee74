"""Uploading a gibibyte by curl, beside copying the file, syncing it and taking its digest."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import catalog
from bench import data
from bench.figures import Figure
from bench.load_sqlite import new_site
from bench.measure import ROOT, Command, Failed, Sample, in_turns, median
from bench.site import Site
from bench.suites import Options, workplace
from catalog import batches, controls, keys
from dev.servers import answers, end_with_parent, free_port, stop, wait_until

BYTES = 1 << 30


def make_large(path: Path, size: int = BYTES) -> None:
    """Write a file of clean rows, again and again, up to this size."""
    source = data.generated(100_000, ["clean"])["clean"].read_bytes()
    with path.open("wb") as file:
        for left in range(size, 0, -len(source)):
            file.write(source[:left])


class Web:
    """The web process, as the Procfile starts it, but alone: all its memory is that of the one process that serves."""

    def __init__(self, site: Site, folder: Path) -> None:
        self.site, self.port = site, free_port()
        self.catalog = catalog.connect(site.catalog_url)
        self.key = keys.create(self.catalog, "bench", ["import", "read"])
        environment = site.environment | {"PORT": str(self.port), "WEB_CONCURRENCY": "1", "PATH": "/usr/bin:/bin"}
        with (folder / "web.log").open("wb") as log:
            command = [sys.executable, "-m", "gunicorn", "wsgi:app"]
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log, preexec_fn=end_with_parent)
        wait_until(lambda: answers(self.port), self.process, "gunicorn")

    @property
    def url(self) -> str:
        """Return the address of the API."""
        return f"http://127.0.0.1:{self.port}/api"

    def peak_mib(self) -> float:
        """Return the most memory that the serving process has used."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        status = Path(f"/proc/{children[0]}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024

    def close(self) -> None:
        """Stop it."""
        self.catalog.dispose()
        stop(self.process)


def upload(options: Options) -> list[Figure]:
    """Measure `curl -F` and `curl -T`, each of a file that the spool does not hold yet."""
    with workplace() as folder:
        large = folder / "large.csv"
        make_large(large)
        digest = subprocess.run(["sha256sum", str(large)], check=True, stdout=subprocess.PIPE, text=True).stdout.split()[0]
        site, _ = new_site(folder, data.TABLES["sqlite"])
        control = data.CONTROL.replace("ACTION", "Merge")
        stored_control = site.stored_text(control)
        web = Web(site, folder)
        key_id = web.key.split("_")[1]
        controls.add(web.catalog, stored_control, key_id=key_id, tables=site.tables(control))
        curl = ["curl", "-sS", "--fail-with-body", "-u", f"api:{web.key}"]

        def form() -> tuple[Sequence[str], dict[str, str]]:
            forget()
            batch = batches.create(web.catalog, control=stored_control, key_id=key_id)
            return [*curl, "-F", f"batch={batch}", "-F", "name=items.csv", "-F", f"file=@{large}", f"{web.url}/file"], {}

        def raw() -> tuple[Sequence[str], dict[str, str]]:
            forget()
            return [*curl, "-T", str(large), f"{web.url}/file/{digest}"], {}

        def forget() -> None:
            site.spool.delete(digest, unused_seconds=0)

        def copy() -> tuple[Sequence[str], dict[str, str]]:
            (folder / "copy").unlink(missing_ok=True)
            return ["sh", "-c", f"cp '{large}' '{folder}/copy' && sync '{folder}/copy' && sha256sum '{folder}/copy'"], {}

        def check(sample: Sample) -> None:
            if digest not in sample.told["output"] or site.spool.size(digest) != BYTES:
                raise Failed(f"the file was not stored: {sample.told['output']}")

        try:
            commands = [Command("cp + sync + sha256sum", copy), Command("curl -F", form, check), Command("curl -T", raw, check)]
            samples = in_turns(commands, options.rounds)
            peak = web.peak_mib()
        finally:
            web.close()
    return _figures(samples, peak)


def _figures(samples: dict[str, list[Sample]], peak_mib: float) -> list[Figure]:
    base = median(samples["cp + sync + sha256sum"])
    beside = f"`cp` + `sync` + `sha256sum` ({base:.2f} s)"
    figures = [Figure(f"upload of 1 GiB, `{how}`", beside, median(samples[how]) / base, 1.0) for how in ("curl -F", "curl -T")]
    return [*figures, Figure("web process, peak during these uploads", "MiB", peak_mib, 80)]
