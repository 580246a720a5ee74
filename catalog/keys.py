"""API keys: `lad_<id>_<secret>`, shown once, stored as a digest."""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from sqlalchemy import Engine, bindparam, delete, or_, select, update

import clock
from catalog.database import reading, writing
from catalog.states import TableKey
from catalog.tables import keys, sessions

LIMITS = ("controls", "tables", "actions", "networks")  # what a key may be limited to
ACTIONS = ("Insert", "Update", "Delete", "Merge")
PERMISSIONS = ("import", "read", "read:all", "control", "approve", "admin")
_BY_ID = select(keys).where(keys.c.id == bindparam("p_id"))
_TOKEN = re.compile(r"lad_([0-9a-f]{1,32})_([A-Za-z0-9_-]{1,128})")
_USE_NOTED_EVERY = timedelta(minutes=1)  # a write for every request would be dear, and says no more


@dataclass(frozen=True, slots=True)
class Key:
    """An API key, without its secret."""

    id: str
    name: str
    permissions: frozenset[str]
    limits: Mapping[str, Any]  # as `limits_of` makes them; they never change
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None  # to the minute
    is_person: bool = False  # it is somebody's who signs in by a provider; nobody has its secret

    def can(self, permission: str) -> bool:
        """Tell whether the key has a permission. `admin` has all, `read:all` includes `read`."""
        held = self.permissions
        return permission in held or "admin" in held or (permission == "read" and "read:all" in held)

    def can_see(self, key_id: str) -> bool:
        """Tell whether the key may see what the key `key_id` made."""
        return key_id == self.id or self.can("read:all")

    @property
    def control_names(self) -> frozenset[str] | None:
        """Return the only named control files that the key may use; None: all."""
        return self._only("controls")

    @property
    def tables(self) -> frozenset[TableKey] | None:
        """Return the only tables, by schema and name, to which its imports may write; None: all."""
        found = self.limits.get("tables")
        return None if found is None else frozenset((schema, name) for schema, name in found)

    @property
    def actions(self) -> frozenset[str] | None:
        """Return the only actions that its imports may do; None: all."""
        return self._only("actions")

    @property
    def networks(self) -> tuple[IPv4Network | IPv6Network, ...] | None:
        """Return the only networks from which it may be used; None: all."""
        found = self.limits.get("networks")
        return None if found is None else tuple(map(ip_network, found))

    @property
    def limit_texts(self) -> dict[str, list[str]]:
        """Return what the key is limited to, as people read it, by the names of LIMITS; what is not limited is not there."""
        found = {name: list(self.limits[name]) for name in LIMITS if name in self.limits}
        if "tables" in found:
            found["tables"] = [name if schema is None else f"{schema}.{name}" for schema, name in found["tables"]]
        return {name: sorted(texts) for name, texts in found.items()}

    @property
    def is_limited(self) -> bool:
        """Tell whether its imports are limited in any way: it may then work with what it has made itself only, as others may do more."""
        return any(name in self.limits for name in LIMITS if name != "networks")

    def _only(self, limit: str) -> frozenset[str] | None:
        found = self.limits.get(limit)
        return None if found is None else frozenset(found)

    def may_come_from(self, address: str) -> bool:
        """Tell whether the key may be used from an address; one that is none is in no network."""
        if self.networks is None:
            return True
        try:
            found = ip_address(address)
        except ValueError:
            return False
        seen = found.ipv4_mapped if isinstance(found, IPv6Address) and found.ipv4_mapped else found
        return any(seen in network for network in self.networks)

    def is_valid(self, at: datetime) -> bool:
        """Tell whether the key is neither revoked nor expired at this instant."""
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)


def limits_of(
    controls: Iterable[str] = (), tables: Iterable[TableKey] = (), actions: Iterable[str] = (), networks: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the limits of a key as they are stored; what nothing is given of is not limited. ValueError says what is no limit."""
    unknown = [action for action in actions if action not in ACTIONS]
    if unknown:
        raise ValueError(f"not an action: {', '.join(unknown)} (allowed: {', '.join(ACTIONS)})")
    limits = {
        "controls": sorted(set(controls)),
        "tables": sorted({*tables}, key=lambda table: (table[0] or "", table[1])),
        "actions": sorted(set(actions)),
        "networks": sorted({str(_network(network)) for network in networks}),
    }
    return {name: found for name, found in limits.items() if found}


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text.strip())
    except ValueError:
        raise ValueError(f"not a network: {text[:80]} (allowed are such as 10.1.0.0/16, 192.0.2.7, fd00::/8)") from None


def create(
    engine: Engine,
    name: str,
    permissions: Iterable[str],
    *,
    expires_at: datetime | None = None,
    limits: Mapping[str, Any] | None = None,
) -> str:
    """Make a key and return it: the only time that its secret is known. ValueError for an unknown permission, or none."""
    wanted = sorted(set(permissions))
    unknown = [p for p in wanted if p not in PERMISSIONS]
    if unknown or not wanted:
        raise ValueError(f"not a permission: {', '.join(unknown) or 'none given'} (allowed: {', '.join(PERMISSIONS)})")
    key_id, secret = secrets.token_hex(5), secrets.token_urlsafe(32)
    row = {
        "id": key_id, "name": name, "secret_digest": _digest(secret), "permissions": wanted, "limits": dict(limits or {}),
        "created_at": clock.now(), "expires_at": expires_at,
    }  # fmt: skip
    with writing(engine) as connection:
        connection.execute(keys.insert(), row)
    return f"lad_{key_id}_{secret}"


def verify(engine: Engine, token: str) -> Key | None:
    """Return the key that `token` is, or None: malformed, unknown, wrong, revoked and expired look alike from outside."""
    found = _TOKEN.fullmatch(token)
    key_id, secret = found.groups() if found else ("", "")
    with reading(engine) as connection:
        row = connection.execute(_BY_ID, {"p_id": key_id}).one_or_none()
    # What is no key, or has an unknown id, is compared too, with a digest that no secret has, so that it takes as long as a wrong secret.
    is_right = hmac.compare_digest(row.secret_digest if row else "0" * 64, _digest(secret))
    now = clock.now()
    key = _key(row) if row else None
    if key is None or not is_right or not key.is_valid(now):
        return None
    if key.last_used_at is None or now - key.last_used_at >= _USE_NOTED_EVERY:
        _note_use(engine, key_id, now)
    return key


def get(engine: Engine, key_id: str) -> Key | None:
    """Return the key of this id, whether it is valid or not."""
    with reading(engine) as connection:
        row = connection.execute(select(keys).where(keys.c.id == key_id)).one_or_none()
    return _key(row) if row else None


def find(engine: Engine, key_id: str) -> Key | None:
    """Return the key of this id while it is valid; for what was allowed in its name before."""
    key = get(engine, key_id)
    return key if key is not None and key.is_valid(clock.now()) else None


def _note_use(engine: Engine, key_id: str, now: datetime) -> None:
    is_stale = or_(keys.c.last_used_at.is_(None), keys.c.last_used_at <= now - _USE_NOTED_EVERY)
    with writing(engine) as connection:
        connection.execute(update(keys).where(keys.c.id == key_id, is_stale).values(last_used_at=now))


def all_keys(engine: Engine) -> list[Key]:
    """Return every key, revoked and expired ones too, oldest first."""
    with reading(engine) as connection:
        return [_key(row) for row in connection.execute(select(keys).order_by(keys.c.created_at, keys.c.id))]


def revoke(engine: Engine, key_id: str) -> bool:
    """Make a key fail from now on. False: there is no such key, or it was revoked before."""
    with writing(engine) as connection:
        revoked = update(keys).where(keys.c.id == key_id, keys.c.revoked_at.is_(None)).values(revoked_at=clock.now())
        return bool(connection.execute(revoked).rowcount)


def readmit(engine: Engine, key_id: str) -> bool:
    """Take back that a person's key was revoked, so that they may sign in again; no key with a secret comes back. False: there is none.

    Sessions from before stay over: they may be what it was revoked for.
    """
    with writing(engine) as connection:
        is_kept_out = (keys.c.id == key_id) & keys.c.subject.is_not(None) & keys.c.revoked_at.is_not(None)
        if is_done := bool(connection.execute(update(keys).where(is_kept_out).values(revoked_at=None)).rowcount):
            connection.execute(delete(sessions).where(sessions.c.key_id == key_id))
        return is_done


def _digest(secret: str) -> str:
    # A fast hash will do: the secret has 256 random bits, so there is nothing to guess.
    return hashlib.sha256(secret.encode()).hexdigest()


def _key(row: Any) -> Key:
    return Key(
        id=row.id,
        name=row.name,
        permissions=frozenset(row.permissions),
        limits=row.limits,
        created_at=row.created_at,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        last_used_at=row.last_used_at,
        is_person=row.subject is not None,
    )
