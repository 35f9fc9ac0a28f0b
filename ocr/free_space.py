"""Remove what a database keeps of deleted rows.

SQLite: connections have ``secure_delete`` (``config/settings.py``), so freed pages are overwritten with zeros. The
write-ahead log contains older versions of pages until it is checkpointed and truncated.

PostgreSQL: a deleted row stays in its page until a vacuum, and in the write-ahead log until that is recycled. The
tables of readings have storage parameters that start autovacuum early
(``ocr/migrations/0010_retention_of_old_readings.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from django.apps import apps
from django.db import OperationalError, connection

log = logging.getLogger(__name__)

#: how long truncating the log may wait for a reader; the usual time limit would delay the request too much
MAX_WAIT_MS = 200
#: models whose rows an erasure deletes
LABELS = (
    *("ocr.KtpExtraction", "ocr.KtpImage", "ocr.KtpChange", "ocr.KtpSession"),
    *("sessions_app.ChatSession", "sessions_app.Chunk", "sessions_app.SessionMedia"),
)


def overwrite() -> bool:
    """SQLite: checkpoint the write-ahead log and truncate it. Returns False if a reader blocks that: try later.

    Does nothing inside a transaction, and nothing on PostgreSQL.
    """
    if connection.vendor != "sqlite" or connection.in_atomic_block:
        return True
    with connection.cursor() as cursor:
        usual_ms = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
        cursor.execute(f"PRAGMA busy_timeout = {MAX_WAIT_MS}")
        try:
            is_busy, *_ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except OperationalError as exc:
            log.info("the write-ahead log was not cut, because the database is in use: %s", exc)
            return False
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {usual_ms}")
    return not is_busy


def vacuum() -> Iterator[str]:
    """PostgreSQL: vacuum the tables of ``LABELS``, and yield each when it is done. SQLite: the same as ``overwrite``.

    Must not run inside a transaction. It takes no lock that blocks readers or writers.
    """
    if connection.vendor != "postgresql":
        overwrite()
        return
    for label in LABELS:
        table = apps.get_model(label)._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute(f"VACUUM {connection.ops.quote_name(table)}")
        yield table
