"""The buckets in the database: adding to the current minute, folding old minutes into hours, removing old hours."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping

from django.db import connection, models, transaction
from django.utils import timezone

from sessions_app.history.models import HistoryFigure

MINUTE, HOUR, DAY = 1, 60, 24 * 60
#: minutes are kept for a day, and for the last hour that is not folded yet
KEEP_MINUTES = DAY + HOUR
#: hours are kept for thirty days and the current day
KEEP_HOURS = 31 * DAY
#: maximum number of rows folded in one transaction, so that none is long
BATCH = 5000

# Every process adds to the same rows, so their number does not depend on the number of processes.
ADD = """
INSERT INTO sessions_app_historyfigure (minutes, minute, name, value) VALUES {rows}
ON CONFLICT (minutes, minute, name) DO UPDATE SET value = sessions_app_historyfigure.value + EXCLUDED.value
"""


def minute_of(time: datetime.datetime) -> int:
    """The number of the minute, since 1970 in UTC."""
    return int(time.timestamp() // 60)


def add(counts: Mapping[str, int]) -> None:
    """Add to the figures of this minute, in one statement. Those that are 0 need no row."""
    minute = minute_of(timezone.now())
    _add({(MINUTE, minute, name): count for name, count in counts.items()})


def _add(values: Mapping[tuple[int, int, str], int]) -> None:
    # In one order everywhere: of two statements that add to the same rows, neither waits for the other's.
    rows = [(*key, value) for key, value in sorted(values.items()) if value]
    if not rows:
        return
    statement = ADD.format(rows=", ".join(["(%s, %s, %s, %s)"] * len(rows)))
    with connection.cursor() as cursor:
        cursor.execute(statement, [column for row in rows for column in row])


def keep_small() -> None:
    """What the sweeper does in every pass: nothing, but for one query, until an hour of minutes is old enough."""
    if _old_minutes().exists():
        fold_old()
        delete_old()


def fold_old() -> int:
    """Fold minutes of more than a day ago into hours. Returns how many rows were folded.

    Any number of processes may do so at once: each takes rows that no other has.
    """
    with transaction.atomic():
        rows = list(_old_minutes().order_by("minute", "name").select_for_update(skip_locked=True)[:BATCH])
        folded = Counter[tuple[int, int, str]]()
        for row in rows:
            folded[HOUR, row.minute // HOUR * HOUR, row.name] += row.value
        _add(folded)
        HistoryFigure.objects.filter(pk__in=[row.pk for row in rows]).delete()
    return len(rows)


def delete_old() -> None:
    """Remove the hours of more than thirty days ago."""
    oldest = minute_of(timezone.now()) - KEEP_HOURS
    HistoryFigure.objects.filter(minutes=HOUR, minute__lt=oldest).delete()


def _old_minutes() -> models.QuerySet[HistoryFigure]:
    """Whole hours only, so that an hour is folded once."""
    before = (minute_of(timezone.now()) - KEEP_MINUTES) // HOUR * HOUR
    return HistoryFigure.objects.filter(minutes=MINUTE, minute__lt=before)
