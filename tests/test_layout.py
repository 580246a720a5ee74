"""Conventions that a reader may rely on, held by looking at the files."""

import ast
import re
import subprocess
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from docs import generate
from engine import faults
from settings import Settings

ROOT = Path(__file__).parent.parent
# What each part may import of ours besides itself, errors and clock. Parts that are not named here wire the others, or are tools.
MAY_IMPORT = {
    "errors": set(),
    "clock": set(),
    "pace": set(),
    "links": set(),
    "memory": set(),
    "setting_texts": set(),
    "settings": {"setting_texts"},
    "schemas": set(),
    "spool": set(),
    "catalog": {"links"},
    "engine": {"links"},
    "observe": {"settings"},
    "oidc": {"settings", "setting_texts"},
    "jobs": {"engine", "catalog", "spool", "schemas", "settings", "observe"},
    "cli": {"engine", "catalog", "spool", "schemas", "settings", "jobs", "observe", "oidc"},
    # Of the engine what checks control files and what reads results and files back; nothing of it that writes.
    "routes": {
        *("jobs.queues", "catalog", "spool", "schemas", "engine.control", "engine.plan", "engine.target", "engine.readers"),
        *(
            "engine.allowed",
            "engine.results",
            "engine.segments",
            "engine.failed",
            "engine.failed_sheet",
            "engine.rollup",
            "engine.searching",
            "engine.source_rows",
            "engine.missing",
            "engine.workbook",
            "engine.tables",
            "engine.spreadsheet",
        ),
    },
}
# Pages ask what routes ask, by the same functions; routes know nothing of pages.
MAY_IMPORT["pages"] = {*MAY_IMPORT["routes"], "routes", "oidc", "settings"}
OURS = {*MAY_IMPORT, "app", "wsgi", "worker", "dev", "tests", "bench", "docs"}


def tracked() -> list[Path]:
    """Return the files that belong to the project, new ones included."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def sources() -> list[Path]:
    """Return the Python files among them."""
    return [path for path in tracked() if path.suffix == ".py"]


def imports(path: Path) -> Iterator[str]:
    """Yield the names of the modules that a file imports, `a.b` for `from a import b`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports of ours are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_within(module: str, part: str) -> bool:
    """Tell whether a dotted name is the part or in it."""
    return f"{module}.".startswith(f"{part}.")


def test_imports_point_one_way() -> None:
    """Each part imports only those parts of ours that it may know."""
    wrong = []
    for path in sources():
        part = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if part not in MAY_IMPORT:
            continue
        allowed = {part, "errors", *MAY_IMPORT[part]} | ({"clock"} if part != "settings" else set())
        wrong += [
            f"{path.relative_to(ROOT)} imports {module}"
            for module in imports(path)
            if module.partition(".")[0] in OURS and not any(is_within(module, name) for name in allowed)
        ]
    assert not wrong, "\n".join(wrong)


def test_the_import_rule_can_fail(tmp_path: Path) -> None:
    """The test before this one sees every form of import, those within functions too."""
    path = tmp_path / "x.py"
    path.write_text("import a.b\ndef f():\n    from c import d, e\n")
    assert set(imports(path)) == {"a.b", "c.d", "c.e"}
    assert is_within("engine.control.compile", "engine.control") and not is_within("engine.controls", "engine.control")


def test_every_queue_is_served() -> None:
    """The Procfile runs the worker, and the worker serves every queue that jobs/queues.py names."""
    lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    assert lines == {"release": "flask db upgrade", "web": "gunicorn wsgi:app", "worker": "python worker.py"}
    names = re.findall(r"\bQueue\((\w+)", (ROOT / "jobs" / "queues.py").read_text())
    worker = (ROOT / "worker.py").read_text()
    assert names and all(f"queues.{name}" in worker for name in names)


@pytest.mark.parametrize("path", list(generate.pages()), ids=lambda path: path.name)
def test_reference_pages_are_made_from_the_code(path: Path) -> None:
    """What `make docs` would write is what stands there."""
    assert path.read_text(encoding="utf-8") == generate.pages()[path], "run `make docs`"


def test_every_setting_and_fault_is_documented() -> None:
    """The reference names each setting and each code, and each code has a severity that results may have."""
    settings, kinds = generate.settings_page(), generate.faults_page()
    assert all(f"`{f.name.upper()}`" in settings for f in fields(Settings))
    assert faults.CATALOGUE and all(f"## {code}\n" in kinds for code in faults.CATALOGUE)
    assert {kind.severity for kind in faults.CATALOGUE.values()} <= {"Information", "Warning", "Error"}


def test_settings_are_read_in_one_place() -> None:
    """Nothing but settings.py, and what starts processes, looks into the environment."""
    may = {"settings.py", "gunicorn.conf.py", "worker.py", "app.py"}
    found = [p.relative_to(ROOT) for p in sources() if re.search(r"os\.(environ|getenv)", p.read_text(encoding="utf-8"))]
    assert not [p for p in found if str(p) not in may and p.parts[0] not in {"dev", "tests", "bench"}]


def test_every_test_says_what_it_holds() -> None:
    """Each test has a docstring, of one sentence."""
    silent = []
    for path in sources():
        if not path.name.startswith("test_"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_") and not ast.get_docstring(node):
                silent.append(f"{path.name}: {node.name}")
    assert not silent, "\n".join(silent)


def test_files_stay_small() -> None:
    """No Python file has 400 lines or more, and no function more than 60."""
    large = []
    for path in sources():
        text = path.read_text(encoding="utf-8")
        if text.count("\n") >= 400:
            large.append(f"{path.relative_to(ROOT)}: {text.count(chr(10))} lines")
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or 0) - node.lineno + 1
                if length > 60:
                    large.append(f"{path.relative_to(ROOT)}: {node.name} has {length} lines")
    assert not large, "\n".join(large)


def test_no_paths_of_one_machine() -> None:
    """Nothing names a folder that only the machine of its author has, or a registry's host."""
    words = (
        "/" + "work/",
        "/" + "root/",
        "/" + "home/",
        "files." + "pythonhosted",
        "pypi." + "org/simple",
        "--index" + "-url",
        "--find" + "-links",
    )
    found = [f"{path.relative_to(ROOT)}: {word}" for path in tracked() for word in words if word.encode() in path.read_bytes()]
    assert not found, "\n".join(found)


def test_nothing_is_left_for_later() -> None:
    """No source has a mark that says it is unfinished, and no test is skipped."""
    marks = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|HA" + r"CK)\b|pytest\.(skip|xfail)|mark\.(skip|xfail)")
    assert not [str(path.relative_to(ROOT)) for path in sources() if marks.search(path.read_text(encoding="utf-8"))]


def test_locked_packages_have_hashes() -> None:
    """Every package of the locks is pinned with its hashes, and what runs in production is the same in all."""
    pins = {}
    for name in ("requirements.txt", "requirements-observe.txt", "requirements-oidc.txt", "requirements-dev.txt"):
        text = (ROOT / name).read_text()
        blocks = re.findall(r"^([a-z0-9][\w.-]*)==(\S+)[^\n]*\\\n((?:    --hash=sha256:[0-9a-f]{64}[ \\]*\n?)+)", text, re.MULTILINE)
        assert len(blocks) == len(re.findall(r"^[a-z0-9]", text, re.MULTILINE))
        pins[name] = {package: version for package, version, _ in blocks}
    assert all(found.items() <= pins["requirements-dev.txt"].items() for found in pins.values())
