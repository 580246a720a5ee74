"""A container image without containers: the Dockerfile's steps, carried out in order below a folder that stands for its root."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from dev.servers import end_with_parent
from dev.stack import ROOT
from tests.test_layout import tracked

_INNER = re.compile(r"(?<![\w.])/(opt|srv)\b")  # the folders of the image that its commands name


def instructions(text: str) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions: (name, what follows it)."""
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in lines)]


def sent_to_build(ignored: str) -> list[Path]:
    """Return what `COPY . ./` copies of a clean checkout, relative to it: the files that .dockerignore does not name."""
    patterns = [line.removeprefix("/") for line in ignored.splitlines() if line and not line.startswith("#")]
    return [path for path in (each.relative_to(ROOT) for each in tracked()) if not any(_matches(path, p) for p in patterns)]


def _matches(path: Path, pattern: str) -> bool:
    """Tell whether a pattern of .dockerignore names a file or a folder above it. All but `**/` patterns begin at the top."""
    if pattern.startswith("**/"):
        return any(fnmatch(part, pattern[3:]) for part in path.parts)
    depth = len(Path(pattern).parts)
    return len(path.parts) >= depth and all(map(fnmatch, path.parts, Path(pattern).parts))


@dataclass
class Image:
    """What a Dockerfile makes, below `root`."""

    root: Path
    workdir: str = "/"
    environment: dict[str, str] = field(default_factory=dict)
    user: str = "0"
    command: list[str] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    volumes: list[str] = field(default_factory=list)
    ran: list[str] = field(default_factory=list)

    def place(self, path: str) -> Path:
        """Return where a path of the image lies."""
        return self.root / os.path.normpath(Path(self.workdir) / path).lstrip("/")

    def inner(self, text: str) -> str:
        """Return a text of the image with its paths as they are here."""
        return _INNER.sub(lambda found: f"{self.root}/{found[1]}", text)

    def env(self, **more: str) -> dict[str, str]:
        """Return the environment of a container: the image's and what it is given, and nothing of ours but what Python needs."""
        base = {"PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent"}
        network = {name: value for name, value in os.environ.items() if name.startswith(("PIP_", "SSL_"))}
        return base | network | {name: self.inner(value) for name, value in self.environment.items()} | more

    def start(self, command: list[str], log: Path, **more: str) -> subprocess.Popen[bytes]:
        """Start a container's process, as its CMD or another."""
        env = self.env(**more)
        program = shutil.which(command[0], path=env["PATH"])
        assert program is not None, command
        with log.open("ab") as out:
            return subprocess.Popen(
                [program, *command[1:]], cwd=self.place("."), env=env, stdout=out, stderr=out, preexec_fn=end_with_parent
            )


def build(root: Path, packages: Path | None = None) -> Image:
    """Carry out the Dockerfile; with `packages`, a virtual environment, the steps before its last stage are left out and that is taken."""
    steps = instructions((ROOT / "Dockerfile").read_text(encoding="utf-8"))
    last = max(number for number, (name, _) in enumerate(steps) if name == "FROM")
    image = Image(root)
    if packages is not None:
        (root / "opt").mkdir(parents=True)
        (root / "opt" / "venv").symlink_to(packages)
    else:
        for name, rest in steps[:last]:
            _step(image, name, rest)
    image.workdir = "/"
    shutil.rmtree(root / "srv", ignore_errors=True)  # the last stage begins without what only the one before it needed
    for name, rest in steps[last:]:
        _step(image, name, rest)
    return image


def _step(image: Image, name: str, rest: str) -> None:
    if name == "WORKDIR":
        image.workdir = rest
        image.place(".").mkdir(parents=True, exist_ok=True)
    elif name == "COPY":
        _copy(image, rest)
    elif name == "RUN":
        image.ran.append(rest)
        subprocess.run(["sh", "-c", image.inner(rest)], cwd=image.place("."), env=image.env(), check=True)
    elif name == "ENV":
        image.environment |= dict(word.split("=", 1) for word in shlex.split(rest))
    elif name == "USER":
        image.user = rest
    elif name == "VOLUME":
        image.volumes.append(rest)
    elif name == "CMD":
        image.command = json.loads(rest)
    elif name == "HEALTHCHECK":
        image.health = json.loads(rest[rest.index("CMD ") + 4 :])
    else:
        assert name in ("FROM", "EXPOSE"), f"{name}: nobody has taught this to the tests"


def _copy(image: Image, rest: str) -> None:
    words = rest.split()
    if words[0].startswith("--from="):
        assert words[1] == words[2], "the stages share one root here"
        return
    source, target = words
    files = sent_to_build((ROOT / ".dockerignore").read_text(encoding="utf-8")) if source == "." else [Path(source)]
    for path in files:
        place = image.place(target) / path
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, place)
