"""Export lines of the audit log as plain objects, to be stored elsewhere."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

from ocr.audit.models import AuditEntry

COLUMNS = (
    *("sequence", "at", "action", "actor_kind", "actor_id", "actor_name", "address", "card", "purpose", "facts"),
    *("previous_hash", "hash", "key_id", "seal"),
)
BATCH = 2000


def rows_between(since: datetime.datetime | None, until: datetime.datetime | None) -> Iterator[dict[str, Any]]:
    """The lines from ``since`` until before ``until``, oldest first, read in batches."""
    rows = AuditEntry.objects.order_by("sequence").values(*COLUMNS)
    if since is not None:
        rows = rows.filter(at__gte=since)
    if until is not None:
        rows = rows.filter(at__lt=until)
    batch = list(rows[:BATCH])
    while batch:
        yield from batch
        batch = list(rows.filter(sequence__gt=batch[-1]["sequence"])[:BATCH])
