"""The hash of a line, over a form of it that is the same on every database and in every process."""

from __future__ import annotations

import datetime
import hashlib
import json

from ocr.audit.models import AuditEntry


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
