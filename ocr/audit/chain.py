"""The hash of a line and its seal. The hash covers a form of the line that is the same on every database.

The hash chain reveals a change only to someone who noted an earlier hash. A seal reveals it to anyone with
``DATA_KEYS``: whoever has only the database can compute hashes, but no seals. Each hash covers all lines before it, so
one valid seal is evidence for all of them. A key may be removed from ``DATA_KEYS`` once lines are sealed with the next.
"""

from __future__ import annotations

import datetime
import hashlib
import json

from ocr.audit.models import AuditEntry
from sessions_app.encryption import keyring

#: separates the HMACs of seals from those of other columns
PLACE = "ktp audit"


def hash_of(entry: AuditEntry) -> str:
    """SHA-256, in hexadecimal, of the line's contents, its sequence number and the hash of the line before it."""
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
    """The id of the first data key, and the HMAC of the hash with it; both "" if the server has no key."""
    try:
        key = keyring.ring().first
    except (keyring.DataKeyMissing, keyring.WrongKey):
        return "", ""
    return key.id, key.lookup(digest.encode(), PLACE)


def seals_of(digest: str) -> dict[str, str]:
    """Key id → the HMAC of the hash with that key."""
    try:
        ring = keyring.ring()
    except (keyring.DataKeyMissing, keyring.WrongKey):
        return {}
    return dict(zip(ring.ids, ring.lookups(digest.encode(), PLACE), strict=True))
