"""A spool in a bucket: large blobs, copies, sweeps that meet uploads, and a store that fails."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import spool
from errors import DigestMismatch, DigestUnknown, SettingInvalid, SpoolUnavailable
from spool import bucket as buckets, objects
from spool.bucket import Bucket
from spool.objects import ObjectSpool
from tests.object_store import FailingProxy, ObjectStore
from tests.spool_parts import send

DATA = b"carrier,name\nAA,American\n"
DIGEST = hashlib.sha256(DATA).hexdigest()
ROOT = Path(spool.__file__).parents[1]


@pytest.fixture
def store(bucket_url: str, tmp_path: Path) -> ObjectSpool:
    """Give a fresh spool whose copies have room for three megabytes."""
    return ObjectSpool(bucket_url, tmp_path / "local", 3_000_000)


@pytest.fixture
def proxy(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[FailingProxy]:
    """Give a way to the store that can fail, with little patience for it."""
    monkeypatch.setattr(buckets, "_RETRIES", {"max_retries": 1})
    monkeypatch.setattr(buckets, "PAUSE_SECONDS", 0.1)
    with FailingProxy(object_store.port) as made:
        yield made


@pytest.fixture
def shaky(bucket_url: str, object_store: ObjectStore, tmp_path: Path, proxy: FailingProxy, monkeypatch: pytest.MonkeyPatch) -> ObjectSpool:
    """Give a spool whose store is reached by the proxy."""
    for name, value in object_store.environment(proxy.port).items():
        monkeypatch.setenv(name, value)
    return ObjectSpool(bucket_url, tmp_path / "shaky", 3_000_000)


def copies(store: ObjectSpool) -> dict[str, int]:
    """Return this host's copies and their sizes."""
    return {path.name: path.stat().st_size for path in store._cache._root.iterdir()}


# Reading and copies ----------------------------------------------------------------------------------------------
def test_what_was_sent_or_verified_is_read_locally(store: ObjectSpool, bucket_url: str, tmp_path: Path) -> None:
    """A host that has sent or verified bytes has a copy of them, read-only, and needs the store no more to read them."""
    send(store, DATA)
    other = ObjectSpool(bucket_url, tmp_path / "other", 3_000_000)
    assert (copies(store), copies(other)) == ({DIGEST: len(DATA)}, {})
    other.verify(DIGEST)
    assert copies(other) == {DIGEST: len(DATA)}
    Bucket(bucket_url).delete([f"sha256/{DIGEST[:2]}/{DIGEST}"])
    with other.open(DIGEST) as blob:
        assert blob.read() == DATA
    assert not os.access(tmp_path / "other" / "sha256" / DIGEST, os.W_OK) or os.geteuid() == 0
    assert (tmp_path / "other" / "sha256" / DIGEST).stat().st_mode & 0o222 == 0


def test_an_altered_copy_is_fetched_anew(store: ObjectSpool) -> None:
    """A copy that a damaged disk has altered is found by verifying, and replaced by what the store has."""
    send(store, DATA)
    place = store._cache._root / DIGEST
    place.chmod(0o600)
    place.write_bytes(b"x" * len(DATA))
    store.verify(DIGEST)
    assert place.read_bytes() == DATA


def test_altered_bytes_never_become_a_copy(store: ObjectSpool, bucket_url: str) -> None:
    """What the store gives is compared with its digest on its way in."""
    Bucket(bucket_url).put(f"sha256/{DIGEST[:2]}/{DIGEST}", b"x" * len(DATA))
    for read in (store.verify, store.open):
        with pytest.raises(DigestMismatch):
            read(DIGEST)
    assert copies(store) == {}
    assert store.sweep_partials(0) == 0


def test_copies_are_bounded(store: ObjectSpool) -> None:
    """The copies used longest ago go first, and what would fill half of the room is not kept at all."""
    digests = []
    for number in range(4):
        digests.append(send(store, bytes([number]) * 900_000)[0])
        os.utime(store._cache._root / digests[-1], (number, number))
    assert set(copies(store)) == set(digests[1:])
    store.open(digests[1]).close()
    send(store, b"new" * 300_000)
    assert digests[1] in copies(store) and digests[2] not in copies(store)
    large, size = send(store, b"large" * 400_000)
    store.verify(large)
    assert large not in copies(store)
    with store.open(large) as blob:
        assert len(blob.read()) == size


def test_large_blobs_are_read_by_ranges(store: ObjectSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A blob that is no copy is read block by block, from any place, line by line too."""
    monkeypatch.setattr(objects, "BLOCK_BYTES", 1000)
    data = b"".join(b"line %d\n" % n for n in range(300_000))
    digest, _ = send(store, data)
    store._cache.drop(digest)
    with store.open(digest) as blob:
        assert blob.seek(-20, os.SEEK_END) == len(data) - 20
        assert blob.read() == data[-20:]
        assert (blob.read(), blob.seek(5), blob.read(3), blob.tell()) == (b"", 5, data[5:8], 8)
        blob.seek(0)
        assert blob.readlines(5000) == data[: blob.tell()].splitlines(keepends=True)
        blob.seek(1_234_567)
        assert blob.read(100_000) == data[1_234_567:1_334_567]


MEMORY = """
import hashlib, resource, sys
import spool
from spool.bucket import PART_BYTES
store = spool.open_spool(sys.argv[1], sys.argv[2], 1000)
def send(size):
    with store.receive() as receiver:
        for _ in range(size // 2**20):
            receiver.write(b"x" * 2**20)
        return receiver.commit()[0]
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
store.verify(send(24 * 2**20))
before = peak()
digest = send(int(sys.argv[3]) * 2**20)
store.verify(digest)
with store.open(digest) as blob:
    assert hashlib.file_digest(blob, "sha256").hexdigest() == digest
store.uploads.create("0" * 32, {})
with store.uploads.hold("0" * 32) as held:
    for _ in range(int(sys.argv[3])):
        held.append(b"y" * 2**20)
    held.store()
print(before, peak())
"""


def test_blobs_of_any_size_in_flat_memory(bucket_url: str, tmp_path: Path) -> None:
    """A blob many times as large as its parts is sent, verified, read, and sent in parts, in hardly more memory than a small one."""
    arguments = [sys.executable, "-c", MEMORY, bucket_url, str(tmp_path / "local"), "160"]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, cwd=ROOT)
    before, after = map(int, done.stdout.split())
    assert after < before + 40, done.stdout


# Sweeps and uploads ----------------------------------------------------------------------------------------------
def test_sent_again_is_used_again(store: ObjectSpool, bucket_url: str) -> None:
    """Bytes that are sent again are not sent to the store once more, and count as used now, so that no sweep deletes them."""
    send(store, DATA)
    time.sleep(2.1)  # a store tells times to the second
    assert list(store.digests(2)) == [DIGEST]
    before = Bucket(bucket_url).head(f"sha256/{DIGEST[:2]}/{DIGEST}")
    send(store, DATA)
    assert Bucket(bucket_url).head(f"sha256/{DIGEST[:2]}/{DIGEST}") == before
    assert list(store.digests(2)) == []
    assert store.delete(DIGEST, 2) is False
    assert store.delete(DIGEST, 0) is True
    assert [meta.key for meta in Bucket(bucket_url).below("")] == []


@pytest.mark.parametrize("step", ["put", "head", "delete"])
def test_a_sweep_that_meets_an_upload(
    store: ObjectSpool, bucket_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Bytes that are sent again while a sweep deletes them are there afterwards, wherever in its steps the upload comes."""
    send(store, DATA)
    time.sleep(2.1)
    sweep = ObjectSpool(bucket_url, tmp_path / "sweep", 1000)
    reached, done = threading.Event(), threading.Event()
    original = getattr(Bucket, step)

    def held_up(self: Bucket, *arguments: object) -> object:
        if self is sweep._bucket and not reached.is_set():
            reached.set()
            done.wait(1.5)  # the upload may have to wait for this very sweep
        return original(self, *arguments)

    monkeypatch.setattr(Bucket, step, held_up)
    thread = threading.Thread(target=sweep.delete, args=(DIGEST, 2))
    thread.start()
    reached.wait()
    send(store, DATA)
    done.set()
    thread.join()
    assert store.size(DIGEST) == len(DATA)
    assert [meta.key for meta in Bucket(bucket_url).below("deleting")] == []


def test_a_sweep_that_died(store: ObjectSpool, bucket_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upload waits for a sweep that died while it deleted the same bytes no longer than is told, and clears up behind it."""
    monkeypatch.setattr(objects, "DELETING_SECONDS", 0.5)
    Bucket(bucket_url).put(f"deleting/{DIGEST}/dead", b"")
    began = time.monotonic()
    send(store, DATA)
    assert time.monotonic() - began >= 0.5
    assert [meta.key for meta in Bucket(bucket_url).below("deleting")] == []
    Bucket(bucket_url).put(f"deleting/{'0' * 64}/dead", b"")
    assert store.sweep_partials(3600) == 0
    assert store.sweep_partials(-2) == 1


def test_a_slow_sweep_deletes_nothing(store: ObjectSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep that was stopped between looking and deleting gives up, since an upload may no longer wait for it."""
    send(store, DATA)
    monkeypatch.setattr(objects, "DELETE_WITHIN_SECONDS", -1)
    assert store.delete(DIGEST, 0) is False
    assert store.size(DIGEST) == len(DATA)


# A store that fails ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("mode", ["gone", "503"])
def test_a_store_that_is_gone(shaky: ObjectSpool, proxy: FailingProxy, mode: str) -> None:
    """While the store fails everything says so, nothing is left behind, and afterwards all works as before."""
    send(shaky, DATA)
    proxy.mode = mode
    shaky._cache.drop(DIGEST)
    for ask in (
        lambda: send(shaky, b"more"), lambda: shaky.open(DIGEST), lambda: shaky.verify(DIGEST), lambda: shaky.size(DIGEST),
        lambda: shaky.write_segment("1-1", "a", b"x"), lambda: shaky.read_segment("1-1", "a"), shaky.marker,
        lambda: shaky.delete(DIGEST, 0), lambda: list(shaky.digests(0)), lambda: shaky.uploads.create("0" * 32, {}),
    ):  # fmt: skip
        with pytest.raises(SpoolUnavailable, match="the object store fails"):
            ask()
    assert list(shaky._partial.iterdir()) == [] and copies(shaky) == {}
    proxy.mode = "pass"
    assert send(shaky, b"more")[1] == 4
    shaky.verify(DIGEST)


def test_a_store_that_goes_in_the_middle(shaky: ObjectSpool, proxy: FailingProxy) -> None:
    """A line that breaks while a large blob is sent leaves nothing under its digest; sent again, it is stored."""
    data = os.urandom(20_000_000)
    proxy.cut_after = 9_000_000
    with pytest.raises(SpoolUnavailable):
        send(shaky, data)
    proxy.mode = "pass"
    digest = hashlib.sha256(data).hexdigest()
    assert shaky.size(digest) is None and list(shaky._partial.iterdir()) == []
    assert send(shaky, data) == (digest, len(data))
    shaky.verify(digest)


def test_a_store_that_is_gone_for_a_moment(shaky: ObjectSpool, proxy: FailingProxy) -> None:
    """A failure that passes while it is tried again is not noticed."""
    proxy.cut_after, proxy.recovers_at = 4_000_000, 2
    send(shaky, os.urandom(10_000_000))
    assert proxy.refused == 2


def test_a_slow_store(shaky: ObjectSpool, proxy: FailingProxy) -> None:
    """A store that takes its time is waited for."""
    proxy.mode = "slow"
    send(shaky, DATA)
    shaky.verify(DIGEST)


def test_wrong_credentials(bucket_url: str, object_store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the store refuses the credentials this is said, and nothing is taken for lost."""
    for name, value in object_store.environment(secret="d3Jvbmc=").items():
        monkeypatch.setenv(name, value)
    store = ObjectSpool(bucket_url, tmp_path / "local", 1000)
    for ask in (lambda: send(store, DATA), lambda: store.open(DIGEST), store.marker):
        with pytest.raises(SpoolUnavailable, match=r"PermissionDenied|Unauthenticated"):
            ask()


def test_a_bucket_that_is_not_there(bucket_url: str, tmp_path: Path) -> None:
    """A bucket that does not exist is told as such, and not as bytes that were lost."""
    store = ObjectSpool(bucket_url.replace("lading", "nothing-there"), tmp_path / "local", 1000)
    for ask in (
        store.marker, lambda: store.read_segment("1-1", "a"), lambda: store.open(DIGEST), lambda: store.verify(DIGEST),
        lambda: store.segments("1-1"),
    ):  # fmt: skip
        with pytest.raises(SpoolUnavailable, match="has no such bucket"):
            ask()


def test_a_url_that_cannot_be_used(tmp_path: Path) -> None:
    """A bucket's URL that its library does not understand is a wrong setting."""
    with pytest.raises(SettingInvalid, match="SPOOL_URL"):
        ObjectSpool("az://", tmp_path, 1000).marker()


FORK = """
import os, sys
import spool
from errors import SpoolUnavailable
store = spool.open_spool(sys.argv[1], sys.argv[2])
if sys.argv[3] == "before":
    store.marker()
if os.fork() == 0:
    try:
        store.marker()
        print("works", flush=True)
    except SpoolUnavailable as error:
        print(error, flush=True)
    os._exit(0)
os.wait()
"""


@pytest.mark.parametrize(("when", "said"), [("before", "before it forked"), ("after", "works")])
def test_forks(bucket_url: str, tmp_path: Path, when: str, said: str) -> None:
    """Used before a fork, a bucket refuses to be used after it instead of waiting for ever; unused, it works there."""
    arguments = [sys.executable, "-c", FORK, bucket_url, str(tmp_path / "local"), when]
    done = subprocess.run(arguments, check=True, capture_output=True, text=True, cwd=ROOT, timeout=60)
    assert said in done.stdout


def test_unknown_bytes(store: ObjectSpool) -> None:
    """Bytes that vanish while they are read are told as unknown."""
    digest, _ = send(store, b"x" * 10_000_000)
    with store.open(digest) as blob:
        blob.read(10)
        store._bucket.delete([f"sha256/{digest[:2]}/{digest}"])
        blob.seek(9_000_000)
        with pytest.raises(DigestUnknown):
            blob.read(10)
