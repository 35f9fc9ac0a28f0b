"""What databases keep of deleted rows, and how it goes.

SQLite: connections have ``secure_delete`` (``config/settings.py``), so freed pages are overwritten with zeros. The
write-ahead log still has older versions of pages, until it is written back and cut.

PostgreSQL: a deleted row stays in its page until a vacuum, and in the write-ahead log until that is recycled. The
tables of readings have storage parameters that start autovacuum early (``ocr/migrations/0009_retention.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from django.apps import apps
from django.db import OperationalError, connection

log = logging.getLogger(__name__)

#: how long cutting the log may wait for a reader; the database's own time limit would hold up the request
MAX_WAIT_MS = 200
#: what an erasure deletes from
LABELS = (
    *("ocr.KtpExtraction", "ocr.KtpImage", "ocr.KtpChange", "ocr.KtpSession"),
    *("sessions_app.ChatSession", "sessions_app.Chunk", "sessions_app.SessionMedia"),
)


def overwrite() -> bool:
    """SQLite: write the log back into the database, and cut it to nothing. False if a reader holds it: try later.

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
    """PostgreSQL: vacuum what readings are deleted from; SQLite: as ``overwrite``. Yields each table once it is done.

    Must not run inside a transaction. It takes no lock that stops readers or writers.
    """
    if connection.vendor != "postgresql":
        overwrite()
        return
    for label in LABELS:
        table = apps.get_model(label)._meta.db_table
        with connection.cursor() as cursor:
            cursor.execute(f"VACUUM {connection.ops.quote_name(table)}")
        yield table
