"""Uploads in parts, in a spool in a folder and in one in a bucket: what each of them keeps, cuts, stores and forgets."""

from __future__ import annotations

import hashlib
import threading

import pytest

import spool
from errors import DigestMismatch, UploadHeld, UploadUnknown
from spool import object_uploads
from spool.bucket import Bucket
from tests.spool_parts import Place, place, store

__all__ = ["place", "store"]

ONE = "0" * 31 + "1"
DATA = bytes(range(256)) * 40
DIGEST = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the pieces of a bucket's uploads small enough for there to be several."""
    monkeypatch.setattr(object_uploads, "PIECE_BYTES", 3000)


def test_parts_become_a_blob(store: spool.Spool, place: Place) -> None:
    """Bytes that came through several holders are stored under their digest; told again, the upload does nothing more."""
    store.uploads.create(ONE, {"a": 1})
    for start in range(0, len(DATA), 4000):
        with place.open().uploads.hold(ONE) as held:
            assert (held.size, held.facts["a"]) == (start, 1)
            for byte in range(start, min(start + 4000, len(DATA)), 500):
                held.append(DATA[byte : min(byte + 500, start + 4000)])
            held.sync()
        assert store.uploads.find(ONE)[1] == min(start + 4000, len(DATA))
    for _ in range(2):
        with store.uploads.hold(ONE) as held:
            assert held.store(DIGEST) == DIGEST
    assert store.size(DIGEST) == len(DATA)
    assert place.open().uploads.find(ONE) == ({"a": 1, "digest": DIGEST, "size": len(DATA)}, len(DATA))
    store.verify(DIGEST)


def test_an_empty_upload(store: spool.Spool) -> None:
    """An upload without a byte is stored as any other."""
    store.uploads.create(ONE, {})
    with store.uploads.hold(ONE) as held:
        assert held.store() == hashlib.sha256(b"").hexdigest()
    assert store.size(hashlib.sha256(b"").hexdigest()) == 0


@pytest.mark.parametrize("size", [0, 1, 2999, 3000, 3001, 9999, 10_000])
def test_cutting(store: spool.Spool, place: Place, size: int) -> None:
    """What is behind a cut is forgotten, wherever it falls, and what follows is put there."""
    store.uploads.create(ONE, {})
    with store.uploads.hold(ONE) as held:
        for start in range(0, 10_000, 1000):
            held.append(DATA[start : start + 1000])
        held.cut(size)
        assert held.size == size
    assert place.open().uploads.find(ONE)[1] == size
    with store.uploads.hold(ONE) as held:
        held.append(DATA[size:])
        assert held.store() == DIGEST


def test_another_digest_is_told(store: spool.Spool) -> None:
    """An upload that has another digest than was said is not stored, and stays."""
    store.uploads.create(ONE, {})
    with store.uploads.hold(ONE) as held:
        held.append(DATA)
        with pytest.raises(DigestMismatch):
            held.store("0" * 64)
    assert store.size(DIGEST) is None
    assert store.uploads.find(ONE)[1] in (0, len(DATA))  # it was not synced


def test_one_holder(store: spool.Spool, place: Place) -> None:
    """While one holds an upload nobody else does, nor does it expire; afterwards the next may."""
    store.uploads.create(ONE, {})
    with pytest.raises(UploadHeld):
        store.uploads.create(ONE, {})
    with store.uploads.hold(ONE):
        with pytest.raises(UploadHeld), place.open().uploads.hold(ONE):
            pass
        assert place.open().uploads.expire(0) == 0
    with place.open().uploads.hold(ONE):
        pass


def test_many_who_want_it(store: spool.Spool, place: Place) -> None:
    """Of many who want an upload at the same time, never two have it."""
    store.uploads.create(ONE, {})
    inside, most, got = [], [], []
    barrier = threading.Barrier(8)

    def want() -> None:
        mine = place.open()
        barrier.wait()
        for _ in range(5):
            try:
                with mine.uploads.hold(ONE):
                    inside.append(1)
                    most.append(len(inside))
                    inside.pop()
                    got.append(1)
            except UploadHeld:
                continue

    threads = [threading.Thread(target=want) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got and max(most) == 1


def test_removal_and_expiry(store: spool.Spool) -> None:
    """A removed upload is unknown, as is one that has expired; what it was stored as stays."""
    store.uploads.create(ONE, {})
    with store.uploads.hold(ONE) as held:
        held.append(DATA)
        held.store()
        held.remove()
    with pytest.raises(UploadUnknown):
        store.uploads.find(ONE)
    store.uploads.create(ONE, {})
    assert store.uploads.find(ONE) == ({}, 0)
    assert store.uploads.touched_at(ONE) > 0
    assert store.uploads.expire(3600) == 0
    assert store.uploads.expire(-2) == 1
    for ask in (store.uploads.find, store.uploads.touched_at, lambda i: store.uploads.hold(i).__enter__()):
        with pytest.raises(UploadUnknown):
            ask(ONE)
    assert store.size(DIGEST) == len(DATA)


@pytest.mark.parametrize("upload_id", ["", "../x", "0" * 31, "0" * 33, "G" * 32])
def test_ids_that_are_none(store: spool.Spool, upload_id: str) -> None:
    """What is no id is unknown, and leads nowhere."""
    with pytest.raises(UploadUnknown):
        store.uploads.find(upload_id)


def test_a_dead_holders_lock_grows_old(bucket_url: str, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a bucket the lock of a process that has died counts for some time, and then goes to the next."""
    monkeypatch.setattr(object_uploads, "LOCK_SECONDS", 3.0)
    monkeypatch.setattr(object_uploads, "RENEW_SECONDS", 0.5)
    bucket = Bucket(bucket_url)
    uploads = spool.open_spool(bucket_url, f"{tmp_path}/local").uploads
    uploads.create(ONE, {})
    bucket.create(f"uploads/{ONE}/lock-00000001", b"somebody who has died")
    with pytest.raises(UploadHeld), uploads.hold(ONE):
        pass
    threading.Event().wait(4.5)
    with uploads.hold(ONE) as held:
        threading.Event().wait(4.5)  # longer than a lock counts that nobody renews
        with pytest.raises(UploadHeld), uploads.hold(ONE):
            pass
        held.append(DATA)
        held.sync()
    assert [meta.key for meta in bucket.below(f"uploads/{ONE}") if "lock" in meta.key] == []
