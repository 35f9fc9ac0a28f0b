"""Scheduling: the order in which waiting sessions are claimed, as one query.

Callers take turns; the chats and the cards of a caller have separate turns. The caller with the fewest running sessions
comes first; among equals, the one whose most recent session started earliest; of its sessions, the oldest. So a caller
with hundreds of waiting sessions gets all slots while it is alone, and an equal part of them as soon as others wait.
Sessions of a lost worker come before all others, because their clients have read a part of the answer.
"""

from __future__ import annotations

import enum

from django.conf import settings
from django.db import connection
from django.utils import timezone


class Slot(enum.Enum):
    """What a free slot of a worker is for."""

    #: any session, in the order of turns
    COMMON = "TRUE"
    #: in addition to the batch, for callers without a running session, so that none waits for others' long answers
    NEWCOMER = "held = 0"
    #: in addition to the batch, for readings of cards, in the order of turns
    CARD = "origin = 'ocr'"


CLAIMABLE = """
state IN ('queued', 'running')
    AND (state = 'queued' OR (state = 'running' AND lease_expires_at < %(now)s))
    AND workers_lost + CASE WHEN state = 'running' THEN 1 ELSE 0 END < %(max_attempts)s
"""
#: how many claims of the same size find sessions at the head of the queue at the same moment, and a margin
CLAIMS_AT_ONCE, HEAD_MARGIN = 8, 100
#: ``held`` counts the caller's running sessions and those of its waiting sessions that come first. So concurrent
#: claims, which see the same rows and skip those that another has locked, take sessions of different callers. Sessions
#: of this worker itself whose lease has expired are left out: its writer may renew them, and the sweeper requeues them.
NEXT = """
WITH waiting AS MATERIALIZED (
    SELECT id, caller, origin, created_at,
        CASE WHEN state = 'running' OR workers_lost > 0 THEN 0 ELSE 1 END AS is_new,
        ROW_NUMBER() OVER (PARTITION BY caller, origin ORDER BY created_at) - 1 AS ahead
    FROM sessions_app_chatsession
    WHERE {claimable} AND NOT (state = 'running' AND worker = %(worker)s)
),
busy AS MATERIALIZED (
    SELECT caller, origin, COUNT(*) AS running
    FROM sessions_app_chatsession
    WHERE state IN ('queued', 'running') AND state = 'running' AND lease_expires_at >= %(now)s
    GROUP BY caller, origin
),
ranked AS (
    SELECT waiting.id, waiting.origin, waiting.created_at, is_new, COALESCE(running, 0) + ahead AS held,
        CASE WHEN ahead = 0 THEN (
            SELECT MAX(started_at) FROM sessions_app_chatsession AS earlier
            WHERE earlier.caller = waiting.caller AND earlier.origin = waiting.origin
        ) ELSE %(now)s END AS served_at
    FROM waiting
    LEFT JOIN busy ON busy.caller = waiting.caller AND busy.origin = waiting.origin
),
head AS (
    SELECT id, ROW_NUMBER() OVER (ORDER BY is_new, held, served_at NULLS FIRST, created_at) AS turn
    FROM ranked
    WHERE {is_for}
    ORDER BY turn
    LIMIT {head}
)
"""


IN_ORDER = f"{NEXT} SELECT id FROM head ORDER BY turn"  # noqa: S608  (put together from constants)
ON_SQLITE = f"{IN_ORDER} LIMIT {{limit}}"
#: Locked rows are skipped, so that a worker that froze in a transaction does not block the others. Rows that another
#: claim has just committed are left out before they count towards the limit. NO KEY: writing a listener's row, which
#: refers to the session, does not make the claim skip the session.
ON_POSTGRESQL = f"""{NEXT}
SELECT locked.id FROM head JOIN sessions_app_chatsession AS locked ON locked.id = head.id
WHERE {{claimable}}
ORDER BY turn LIMIT {{limit}} FOR NO KEY UPDATE OF locked SKIP LOCKED
"""  # noqa: S608  (as above)


#: like ``CLAIMABLE``, these repeat the condition of the partial index: SQLite uses it only then, and reads no rows
QUEUED = """
SELECT caller, origin, COUNT(*) FROM sessions_app_chatsession
WHERE state IN ('queued', 'running') AND state = 'queued'
GROUP BY caller, origin
"""
UNFINISHED = """
SELECT caller, SUM(CASE WHEN state = 'queued' THEN 1 ELSE 0 END), SUM(CASE WHEN state = 'running' THEN 1 ELSE 0 END)
FROM sessions_app_chatsession WHERE state IN ('queued', 'running') GROUP BY caller
"""


def next_sessions(slot: Slot, limit: int) -> str:
    """The query for the ids of up to ``limit`` sessions whose turn it is; its parameters are those of the claim."""
    query = ON_POSTGRESQL if connection.vendor == "postgresql" else ON_SQLITE
    return query.format(claimable=CLAIMABLE, is_for=slot.value, head=HEAD_MARGIN + CLAIMS_AT_ONCE * limit, limit=limit)


def in_order() -> list[str]:
    """The ids of all sessions that wait, in the order in which they would be claimed if no other came or ended."""
    query = IN_ORDER.format(claimable=CLAIMABLE, is_for=Slot.COMMON.value, head=settings.MAX_QUEUED_SESSIONS)
    now = connection.ops.adapt_datetimefield_value(timezone.now())
    with connection.cursor() as cursor:
        cursor.execute(query, {"now": now, "worker": "", "max_attempts": settings.SESSION_MAX_ATTEMPTS})
        return [session_id for (session_id,) in cursor.fetchall()]


def queued_by_caller() -> dict[tuple[str, str], int]:
    """Caller and origin → how many such sessions are queued."""
    with connection.cursor() as cursor:
        cursor.execute(QUEUED)
        return {(caller, origin): count for caller, origin, count in cursor.fetchall()}


def unfinished_by_caller() -> dict[str, tuple[int, int]]:
    """Caller → how many of its sessions are queued, and how many run."""
    with connection.cursor() as cursor:
        cursor.execute(UNFINISHED)
        return {caller: (queued, running) for caller, queued, running in cursor.fetchall()}
