"""A bucket of an object store, or a part of one: few operations, tried again where the store fails, their errors told in our words.

The store's library keeps threads of its own, which a fork does not have: used on both sides of one it would wait for ever. So the process
that uses it first is the only one that may.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from errors import SettingInvalid, SpoolUnavailable

R = TypeVar("R")

PART_BYTES = 8 * 1024 * 1024
PARTS_AT_ONCE = 3  # of an upload; each has its bytes in memory
MOST_PARTS = 9_000  # stores take 10,000
ATTEMPTS = 3
PAUSE_SECONDS = 0.5
_RETRIES: dict[str, Any] = {"max_retries": 4, "retry_timeout": timedelta(seconds=20), "backoff": {"max_backoff": timedelta(seconds=4)}}
_CLIENT: dict[str, Any] = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=60), "allow_http": True}

_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound")  # as Amazon, Google and their like say it, and Azure

_used_by: int | None = None


@dataclass(frozen=True, slots=True)
class Meta:
    """What a store says of an object."""

    key: str
    size: int  # bytes
    modified_at: datetime  # by the store's own clock


class Bucket:
    """The objects below `s3://bucket/prefix`, `gs://bucket/prefix` or `az://container/prefix`; nothing is opened before its use.

    Credentials, the region and the endpoint come from the variables that the stores' own tools read (AWS_ACCESS_KEY_ID and so on).
    """

    def __init__(self, url: str) -> None:
        self._url, self._opened, self._lock = url, None, Lock()

    def put(self, key: str, data: bytes) -> None:
        """Store an object; an older one of this key is replaced."""
        self._do(lambda api, store: api.put(store, key, data))

    def create(self, key: str, data: bytes) -> bool:
        """Store an object and say so; not where there is one of this key already."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        try:
            self._do(lambda api, store: api.put(store, key, data, mode="create"), AlreadyExistsError, PreconditionError)
        except (AlreadyExistsError, PreconditionError):
            # The first try may have done it, and its answer been lost: then the object is ours.
            return False
        return True

    def put_file(self, key: str, path: Path, size: int) -> None:
        """Store a local file, a large one in parts, of which a few at a time are in memory. It is there whole or not at all."""
        part = max(PART_BYTES, -(-size // MOST_PARTS))
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with path.open("rb") as file:
                    self._do(lambda api, store, file=file: api.put(store, key, file, chunk_size=part, max_concurrency=PARTS_AT_ONCE))
                return
            except SpoolUnavailable:
                if attempt == ATTEMPTS:
                    raise
                time.sleep(PAUSE_SECONDS * attempt)

    def get(self, key: str) -> bytes | None:
        """Return a small object's bytes, None where there is none."""
        return self._or_none(lambda api, store: bytes(api.get(store, key).bytes()))

    def get_range(self, key: str, start: int, size: int) -> bytes | None:
        """Return some of an object's bytes, which must be there; None where there is no object."""
        return self._or_none(lambda api, store: bytes(api.get_range(store, key, start=start, length=size)))

    def head(self, key: str) -> Meta | None:
        """Return what is known of an object, None where there is none."""
        found = self._or_none(lambda api, store: api.head(store, key))
        return None if found is None else _meta(found)

    def below(self, prefix: str) -> Iterator[Meta]:
        """Yield all objects whose keys lie below a prefix, sorted."""
        pages = self._do(lambda api, store: iter(api.list(store, prefix)))
        while (page := self._do(lambda _api, _store: next(pages, None))) is not None:
            yield from map(_meta, page)

    def folders(self, prefix: str) -> list[str]:
        """Return the next parts of the keys below a prefix, where more follows."""
        found = self._do(lambda api, store: api.list_with_delimiter(store, prefix))
        return [name.rstrip("/").rpartition("/")[2] for name in found["common_prefixes"]]

    def delete(self, keys: Iterable[str]) -> None:
        """Delete objects; one that is not there is fine."""
        for key in keys:
            self._or_none(lambda api, store, key=key: api.delete(store, key))

    def now(self) -> datetime:
        """Return the time by the store's own clock."""
        self.put("now", b"")
        found = self.head("now")
        if found is None:
            raise SpoolUnavailable("the object store does not show what it has just taken")
        return found.modified_at

    def _or_none(self, ask: Callable[..., R]) -> R | None:
        try:
            return self._do(ask, FileNotFoundError)
        except FileNotFoundError as error:
            # A bucket that is not there must not look like one in which everything was lost.
            if _is_about_bucket(error):
                raise self._trouble(error) from error
            return None

    def _do(self, ask: Callable[..., R], *passed: type[Exception]) -> R:
        """Ask the store; errors but those that are `passed` on become SpoolUnavailable."""
        import obstore
        from obstore.exceptions import BaseError

        store = self._store()
        try:
            return ask(obstore, store)
        except passed:
            raise
        except (BaseError, OSError) as error:
            raise self._trouble(error) from error

    def _store(self) -> Any:
        global _used_by
        with self._lock:
            if _used_by is None:
                _used_by = os.getpid()
            if _used_by != os.getpid():
                raise SpoolUnavailable(f"the object store was used by process {_used_by} before it forked {os.getpid()}")
            if self._opened is None:
                self._opened = _open(self._url)
            return self._opened

    def _trouble(self, error: Exception) -> SpoolUnavailable:
        # The first line says what was asked and what came of it; what follows are the library's inner parts.
        what = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:500]}"
        return SpoolUnavailable(f"the object store {'has no such bucket' if _is_about_bucket(error) else 'fails'}: {what}")


def _open(url: str) -> Any:
    from obstore.store import from_url

    try:
        return from_url(url, client_options=_CLIENT, retry_config=_RETRIES)  # type: ignore[call-overload]
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise SettingInvalid(f"SPOOL_URL names a bucket that cannot be used: {reason}") from error


def _is_about_bucket(error: Exception) -> bool:
    return any(word in str(error) for word in _NO_BUCKET)


def _meta(found: Any) -> Meta:
    return Meta(found["path"], found["size"], found["last_modified"])
