"""Memory that is given back early, and what a process does not load that it does not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import memory

ROOT = Path(__file__).parent.parent
# Frees a large piece, which raises glibc's limit, then frees 40 MiB below small pieces that stay: on the heap they could not go back.
GROW = """
import memory
def resident():
    return int(open("/proc/self/status").read().partition("VmRSS:")[2].split()[0]) // 1024
is_early and memory.give_back_early()
large = bytearray(24 << 20)
del large
before = resident()
pieces = [bytearray(b"x") * (1 << 20) for _ in range(40)]
kept = [bytearray(4000) for _ in range(100)]
del pieces
print(resident() - before)
"""


def printed(script: str) -> str:
    """Run a script in a process of its own; return what it prints."""
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def test_freed_memory_goes_back() -> None:
    """What is freed below something that stays goes back to the system, which by itself it does not."""
    assert int(printed(f"is_early = False{GROW}")) > 30
    assert int(printed(f"is_early = True{GROW}")) < 5


# Frees 40 MiB of buffers, on the heap and not mapped by themselves, and takes them again.
AGAIN = """
import memory, resource
if is_kept:
    memory.keep_buffers()
else:
    memory.give_back_early()
for _ in range(200):
    pieces = [bytes(450_000) + b"x" for _ in range(4)], [bytes(1_000_000) + b"x"]
    del pieces
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def test_buffers_are_kept_for_the_next_ones() -> None:
    """A web process does not ask the system for the pages of each buffer anew, as a worker does."""
    kept, given_back = (int(printed(f"is_kept = {is_kept}{AGAIN}")) for is_kept in (True, False))
    assert given_back > kept + 20_000


def test_the_web_process_keeps_its_buffers(tmp_path: Path) -> None:
    """What gunicorn loads sets the allocator so, and nothing sets it otherwise afterwards."""
    script = f"""
import os
import memory
os.environ |= {{"TARGET_URL": "sqlite:///{tmp_path}/t.db", "CATALOG_URL": "sqlite:///{tmp_path}/c.db"}}
os.environ["SPOOL_URL"] = "file:{tmp_path}/spool"
said = []
set_options = memory._set
memory._set = lambda options, library: said.append(options is memory.BUFFERS) or set_options(options, library)
try:
    import wsgi
finally:
    print(said)
"""
    assert printed(script).splitlines()[-1] == "[True]"


def test_another_allocator_is_left_alone() -> None:
    """Where the C library has no mallopt nothing happens, and one that refuses an option is not taken for one that has it."""

    class Refusing:
        def mallopt(self, option: int, _value: int) -> int:
            return int(option != -8)

    assert not memory.give_back_early(object())
    assert not memory.give_back_early(Refusing())


def test_postgresql_is_not_loaded_for_sqlite() -> None:
    """Web process and worker load the PostgreSQL driver only where there is a PostgreSQL to talk to."""
    script = (
        "import sys, app, worker; from settings import Settings;"
        "settings = Settings.from_environment({'TARGET_URL': '%s', 'CATALOG_URL': 'sqlite:///var/c.db', 'SECRET_KEY': 'x' * 40});"
        "app.create_app(settings); worker.prepare_forks(settings); print('psycopg' in sys.modules)"
    )
    assert printed(script % "sqlite:///var/t.db") == "False"
    assert printed(script % "postgresql://127.0.0.1:1/x") == "True"
