"""The hash of a line, over a form of it that is the same on every database, and its seal.

The hashes alone show a change to whoever has noted one of them. The seal shows it to everybody with ``DATA_KEYS``: who
has the database only can compute hashes, and no seals. As each hash covers all lines before it, one good seal is
evidence for all of them; a key may be dropped from ``DATA_KEYS`` once lines are sealed with the next one.
"""

from __future__ import annotations

import datetime
import hashlib
import json

from ocr.audit.models import AuditEntry
from sessions_app.encryption import keyring

#: what the seals' HMAC is told apart by from those of other columns
PLACE = "ktp audit"


def hash_of(entry: AuditEntry) -> str:
    """SHA-256, in hexadecimal, of everything that the line says, its place and the hash of the line before it."""
    said = [
        entry.sequence,
        entry.at.astimezone(datetime.UTC).isoformat(timespec="microseconds"),
        entry.action,
        entry.actor_kind,
        entry.actor_id,
        entry.actor_name,
        entry.address,
        str(entry.card) if entry.card is not None else None,
        entry.purpose,
        entry.facts,
        entry.previous_hash,
    ]
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def seal_of(digest: str) -> tuple[str, str]:
    """The id of the first data key and the HMAC of the hash by it; both "" where the server has no key."""
    try:
        key = keyring.ring().first
    except (keyring.DataKeyMissing, keyring.WrongKey):
        return "", ""
    return key.id, key.lookup(digest.encode(), PLACE)


def seals_of(digest: str) -> dict[str, str]:
    """The HMAC of the hash by the id of each key."""
    try:
        ring = keyring.ring()
    except (keyring.DataKeyMissing, keyring.WrongKey):
        return {}
    return dict(zip(ring.ids, ring.lookups(digest.encode(), PLACE), strict=True))
