"""After a restored backup: erase again the readings that were erased after the backup was made.

The tombstones are kept outside of the database for this purpose. They contain no personal data.
"""

from __future__ import annotations

import datetime
import itertools
import json
import uuid
from collections.abc import Iterable, Iterator
from typing import Any

from django.utils.dateparse import parse_datetime

from ocr.audit.recording import Actor
from ocr.erasing import BATCH_READINGS, erase
from ocr.freezing import Frozen
from ocr.models import KtpExtraction
from ocr.tombstones import Tombstone, Why

COLUMNS = ("reading", "at", "why", "by", "reference", "receipt", "caller")


class NotATombstone(ValueError):
    """The line was not written by ``lines_since``."""


def lines_since(since: datetime.datetime | None) -> Iterator[dict[str, Any]]:
    """The tombstones since then, oldest first, each for one line of JSON."""
    rows = Tombstone.objects.order_by("at")
    return (rows.filter(at__gte=since) if since is not None else rows).values(*COLUMNS).iterator()


def bury(lines: Iterable[str], by: Actor) -> Iterator[int]:
    """Add missing tombstones and erase the readings that came back. Yields the number erased after each batch.

    Raises ``NotATombstone``, and ``Frozen`` for a reading that is under legal hold in the backup.
    """
    for texts in _batched(lines):
        stones = [_tombstone(text) for text in texts if text.strip()]
        Tombstone.objects.bulk_create(stones, ignore_conflicts=True)
        back = set(KtpExtraction.objects.filter(pk__in=[stone.pk for stone in stones]).values_list("pk", flat=True))
        for (why, reference), of_one in itertools.groupby(stones, key=lambda stone: (stone.why, stone.reference)):
            if pks := [stone.pk for stone in of_one if stone.pk in back]:
                erasure = erase(pks, why=Why(why), by=by, reference=reference)
                yield len(erasure.readings)
                if erasure.frozen:
                    raise Frozen(erasure.frozen)


def _batched(lines: Iterable[str]) -> Iterator[tuple[str, ...]]:
    rest = iter(lines)
    while batch := tuple(itertools.islice(rest, BATCH_READINGS)):
        yield batch


def _tombstone(text: str) -> Tombstone:
    try:
        said = json.loads(text)
        columns = {name: str(said[name]) for name in COLUMNS}
        at = parse_datetime(columns["at"])
        if at is None or at.tzinfo is None:
            raise ValueError("no time")
        return Tombstone(
            **columns | {"reading": uuid.UUID(columns["reading"]), "receipt": uuid.UUID(columns["receipt"]), "at": at}
        )
    except (ValueError, KeyError, TypeError) as exc:
        raise NotATombstone("A line is no tombstone.") from exc
