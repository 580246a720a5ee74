"""People who sign in by an OpenID provider. Each has a key of their own, whose secret nobody knows.

So what they do is told of them as of any key, they see what they have made before, and revoking that key keeps them out.
"""

import hashlib
import json
import secrets
from collections.abc import Collection

from sqlalchemy import Engine, select, update

import clock
from catalog.database import insert, writing
from catalog.tables import keys

NAME_CHARS = 200


def enter(engine: Engine, issuer: str, subject: str, name: str, permissions: Collection[str]) -> str | None:
    """Return the id of the key of the person whom the issuer calls `subject`, with this name and just these permissions from now on.

    None for one who is kept out: without permissions, which older sessions have lost then too, or because the key was revoked.
    """
    who = hashlib.sha256(json.dumps([issuer, subject]).encode()).hexdigest()
    now = clock.now()
    said = {"name": name[:NAME_CHARS], "permissions": sorted(permissions), "last_used_at": now}
    with writing(engine) as connection:
        if permissions:
            # The digest is of no secret that anybody has seen: the key signs in by its subject only.
            row = {"id": secrets.token_hex(5), "subject": who, "secret_digest": secrets.token_hex(32), "limits": {}, "created_at": now}
            connection.execute(insert(connection, keys).on_conflict_do_nothing(index_elements=["subject"]), row | said)
        connection.execute(update(keys).where(keys.c.subject == who).values(said))
        found = connection.execute(select(keys.c.id, keys.c.revoked_at).where(keys.c.subject == who)).one_or_none()
        return str(found.id) if found is not None and permissions and found.revoked_at is None else None
