"""How soon a connection to PostgreSQL counts as dead, here and on the server, when the other side is no longer heard.

By the system's own settings that takes hours: a worker whose machine is cut off would keep its rows locked for as long, and one that waits
for an answer which was lost would wait for ever. What the database's URL says itself stands.
"""

from collections.abc import Collection
from typing import Any

SILENT_SECONDS = 10  # after so long without a word the other side is asked whether it still is there
ASK_AGAIN_SECONDS, ASK_TIMES = 5, 2
UNHEARD_SECONDS = 15  # how long what was sent may go without the network's acknowledgement
CONNECT_SECONDS = 5


def options(given: Collection[str]) -> dict[str, Any]:
    """Return libpq's options of a connection but those that are given already.

    >>> options(["connect_timeout", "keepalives_idle", "tcp_user_timeout"])
    {'keepalives_interval': 5, 'keepalives_count': 2}
    """
    ours = {
        "connect_timeout": CONNECT_SECONDS,
        "keepalives_idle": SILENT_SECONDS,
        "keepalives_interval": ASK_AGAIN_SECONDS,
        "keepalives_count": ASK_TIMES,
        "tcp_user_timeout": UNHEARD_SECONDS * 1000,
    }
    return {name: value for name, value in ours.items() if name not in given}


def on_server(idle_seconds: float = 0) -> str:
    """Return the statements by which the server does the same, and ends transactions that are `idle_seconds` without a statement (0: none).

    Statements, since not all that may stand between us and the server passes options on.

    >>> on_server(0.5).rpartition("; ")[2]
    'SET idle_in_transaction_session_timeout = 500'
    """
    wanted = {
        "tcp_keepalives_idle": SILENT_SECONDS,
        "tcp_keepalives_interval": ASK_AGAIN_SECONDS,
        "tcp_keepalives_count": ASK_TIMES,
        "tcp_user_timeout": UNHEARD_SECONDS * 1000,
    }
    if idle_seconds:
        wanted["idle_in_transaction_session_timeout"] = int(idle_seconds * 1000)
    return "; ".join(f"SET {name} = {value}" for name, value in wanted.items())
