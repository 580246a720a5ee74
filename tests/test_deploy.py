"""The container image, compose.yaml and the systemd units: what they start works, and says the same as the Procfile."""

from __future__ import annotations

import configparser
import re
import shlex
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import yaml

from dev import demo
from dev.servers import free_port, wait_until
from dev.stack import ROOT
from settings import Settings
from tests.image_parts import Image, build, instructions, sent_to_build

PROCESSES = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text(encoding="utf-8").splitlines())
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("release", "web", "worker")
VARIABLES = {f.name.upper() for f in fields(Settings)} | {"DATABASE_URL"}
UNITS = {path.name: path for path in (ROOT / "deploy" / "systemd").glob("*.service")}


@pytest.mark.parametrize("packages", [Path(sys.prefix), pytest.param(None, marks=pytest.mark.slow)], ids=["these packages", "installed"])
def test_the_image_works(packages: Path | None, tmp_path: Path, pg_database: str, redis_url: str) -> None:
    """The Dockerfile's steps make, in a clean folder, what compose's services run: they import, are healthy, and end on SIGTERM."""
    image = build(tmp_path / "root", packages)
    port, log = free_port(), tmp_path / "log"
    demo.make_target(tmp_path / "target.db")
    given = {"DATABASE_URL": pg_database, "REDIS_URL": redis_url, "PORT": str(port), "TARGET_URL": f"sqlite:///{tmp_path}/target.db"}
    given["SPOOL_URL"] = image.inner(SERVICES["web"]["environment"]["SPOOL_URL"])
    assert image.start(SERVICES["release"]["command"], log, **given).wait(120) == 0, log.read_text()
    web, worker = image.start(image.command, log, **given), image.start(SERVICES["worker"]["command"], log, **given)
    try:
        wait_until(lambda: is_healthy(image, given), web, "the image", 60)
        words = ["flask", "key", "create", "--name", "k", "--permission", "import", "--permission", "read"]
        key = tmp_path / "key"
        assert image.start(words, key, **given).wait(60) == 0
        token = re.findall(r"^lad_\S+$", key.read_text(), re.MULTILINE)[0]
        assert "completed input=283 success=263 error=20" in demo.run_import(f"http://127.0.0.1:{port}", token, tmp_path)
    finally:
        for process in (web, worker):
            process.send_signal(signal.SIGTERM)
        ends = [process.wait(30) for process in (web, worker)]
    assert ends == [0, 0], log.read_text()
    assert not is_healthy(image, given)


def is_healthy(image: Image, given: dict[str, str]) -> bool:
    """Run the image's health check."""
    command = [str(image.place("/opt/venv/bin/python")), *image.health[1:]]
    return subprocess.run(command, env=image.env(**given), stderr=subprocess.DEVNULL, check=False).returncode == 0


def test_the_image_runs_as_nobody_and_holds_no_tools() -> None:
    """The image's user is a number other than root's; tests, docs and secrets are not sent to its build, and all that runs is."""
    steps = instructions((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    assert next(rest for name, rest in reversed(steps) if name == "USER").split(":")[0] not in ("0", "root")
    names = {str(path) for path in sent_to_build((ROOT / ".dockerignore").read_text(encoding="utf-8"))}
    assert {"app.py", "wsgi.py", "worker.py", "gunicorn.conf.py", "requirements.txt", "catalog/migrations/env.py", "cli/base.py"} <= names
    assert not [name for name in names if name.startswith(("tests/", "docs/", "bench/", "dev/", ".git", ".venv", "var/"))]


def test_python_is_the_same_everywhere() -> None:
    """The image's Python is that of .python-version."""
    version = (ROOT / ".python-version").read_text(encoding="utf-8").strip()
    bases = [rest for name, rest in instructions((ROOT / "Dockerfile").read_text(encoding="utf-8")) if name == "FROM"]
    assert bases and all(base.startswith(f"python:{version}-") for base in bases)


def test_compose_runs_what_the_procfile_runs() -> None:
    """Each of our services has the Procfile's command, known settings, the shared spool, and half a minute to end."""
    image = Image(Path("/"))
    for name, rest in instructions((ROOT / "Dockerfile").read_text(encoding="utf-8")):
        if name == "CMD":
            image.command = yaml.safe_load(rest)
    for name in OURS:
        service = SERVICES[name]
        assert service.get("command", image.command) == shlex.split(PROCESSES[name])
        assert set(service["environment"]) <= VARIABLES
        assert (service["volumes"], service["stop_grace_period"]) == (["spool:/srv/lading/var"], "30s")
        assert set(service["depends_on"]) <= set(SERVICES)
    volumes = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert volumes == set(COMPOSE["volumes"])


def test_units_run_what_the_procfile_runs() -> None:
    """Each unit starts the Procfile's command from the virtual environment, tells only the main process to end, and gives it time."""
    found = {}
    for name, path in UNITS.items():
        unit = configparser.ConfigParser(interpolation=None, strict=False)
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read(path, encoding="utf-8")
        service = unit["Service"]
        found[re.sub(r"^lading-|@?\.service$", "", name)] = service["ExecStart"].removeprefix(f"{service['WorkingDirectory']}/.venv/bin/")
        assert (service["User"], service["EnvironmentFile"], service["NoNewPrivileges"]) == ("lading", "/etc/lading.env", "yes")
        if service.get("Type") != "oneshot":
            assert (service["KillMode"], service["TimeoutStopSec"]) == ("mixed", "30")
            assert unit["Unit"]["Requires"] == "lading-release.service" in UNITS
    assert found == PROCESSES


def test_the_units_settings_are_settings() -> None:
    """The environment file of the units sets what settings there are, to what they take."""
    text = (ROOT / "deploy" / "systemd" / "lading.env").read_text(encoding="utf-8")
    given = dict(line.split("=", 1) for line in text.splitlines() if line and not line.startswith("#"))
    assert set(given) <= VARIABLES
    assert Settings.from_environment(given).spool_url == "file:/var/lib/lading/spool"
