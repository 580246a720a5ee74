"""What limited keys may do: where they may be used from, and what their imports may write, as far as a control file tells it beforehand.

What only the records tell is refused by the engine, record by record (engine/allowed.py), which also looks at all that is let through here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from ipaddress import ip_address

from flask import request

from catalog.batches import Batch
from catalog.keys import Key
from engine.allowed import Allowed
from engine.control.scope import table_text
from engine.plan import FilePlan, Plan
from errors import ControlFileInvalid, Problem, Refusal, TargetUnavailable
from routes import parts


def client_address() -> str:
    """Return the address from which the request came: behind a proxy that is trusted, the one that it tells.

    Each proxy adds whom it has heard at the end of X-Forwarded-For, so what is believed is read from there: an address that is no trusted
    proxy's is the client's, whatever stands before it. Where every address is trusted, only the last is read: nothing vouches for others.
    """
    seen = request.remote_addr or ""
    told = [_without_port(text.strip()) for text in request.headers.get("X-Forwarded-For", "").split(",") if text.strip()]
    trusted = parts().settings.forwarded_allow_ips
    if trusted == "*":
        return told[-1] if told else seen
    while told and (not seen or any(_is_in(seen, network) for network in trusted)):  # a socket of this machine has no address
        seen = told.pop()
    return seen


def _without_port(text: str) -> str:
    """Return an address without the port that some proxies add.

    >>> _without_port("192.0.2.7:4711"), _without_port("[2001:db8::7]:4711"), _without_port("2001:db8::7")
    ('192.0.2.7', '2001:db8::7', '2001:db8::7')
    """
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0] if text.count(":") == 1 else text


def _is_in(address: str, network: object) -> bool:
    try:
        return ip_address(address) in network  # type: ignore[operator]
    except ValueError:
        return False


def refuse_elsewhere(key: Key) -> Key:
    """Return the key, or refuse it where it is used from a network that it is not limited to."""
    address = client_address()
    if not key.may_come_from(address):
        networks = ", ".join(map(str, key.networks or ()))
        raise Refusal(403, "key_limited", f"This key may be used from {networks} only, and this request comes from {address[:80]}.")
    return key


def refuse_anothers(key: Key, batch: Batch) -> None:
    """Refuse that a limited key sends a file to, or schedules, a batch of another key, which may be allowed more."""
    if key.is_limited and batch.key_id != key.id:
        raise Refusal(403, "key_limited", "This key is limited in what it may import, so it may only change batches of its own.")


def refuse_writes(key: Key, control: str, names: Collection[str]) -> None:
    """Refuse these files of a batch where the stored control file writes of them what the key may not."""
    if _allowed(key).is_all:
        return
    with parts().spool.open(control) as stored:
        try:
            plan = parts().compile(stored.read())
        except (ControlFileInvalid, TargetUnavailable):
            return  # The worker tells so; and before it writes anything, it looks at the limits too.
    _refuse(key, _beyond(_allowed(key), {name: plan.file(name) for name in names}))


def refuse_plan(key: Key, plan: Plan) -> None:
    """Refuse a control file that can write what the key may not, whatever its files."""
    allowed = _allowed(key)
    if allowed.is_all:
        return
    tables = [Problem(f"The key may not write to {table_text(key)}.", "entities") for key in plan.tables if not allowed.may_write(key)]
    _refuse(key, [*tables, *_beyond(allowed, {**plan.files, "DEFAULT": plan.default})])


def _beyond(allowed: Allowed, files: dict[str, FilePlan | None]) -> Iterator[Problem]:
    for name, file in files.items():
        entity, action = (file.entity, file.action) if file else (None, None)
        if entity and action and not allowed.may(entity.table.key, action):
            yield Problem(f"The key may not {action.value.lower()} in {table_text(entity.table.key)}.", name)


def _refuse(key: Key, problems: Collection[Problem] | Iterator[Problem]) -> None:
    found = list(problems)
    if found:
        raise Refusal(403, "key_limited", f"This key is limited to {_allowed(key).said()}.", found)


def _allowed(key: Key) -> Allowed:
    return Allowed(key.tables, key.actions)
