"""The statements that the ORM cannot write, one function each: claim sessions, append to many, insert new ones.

They are written out for speed. One UPDATE for each session took more CPU time than the rest of the chunk writer, and an
append runs at every commit, in the interpreter that also drives the model. A claim and an insert delay the first token
of a request. The query that chooses the next sessions is in ``sessions_app.turns``.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Sequence
from typing import Any, TypedDict

from django.conf import settings
from django.db import connection, models, transaction
from django.db.models.sql import InsertQuery
from django.utils import timezone

from sessions_app.deltas import StoredDelta
from sessions_app.models import ChatSession, SessionEvent
from sessions_app.turns import CLAIMABLE, Slot, next_sessions

#: The choice is materialized, because PostgreSQL might run it once for each row: rows that it has locked in one run
#: would be skipped in the next, and others taken in their place.
_CHOSEN = "chosen AS MATERIALIZED ({chosen})"
_CLAIM = """
UPDATE sessions_app_chatsession
SET state = 'running',
    attempt = attempt + 1,
    workers_lost = workers_lost + CASE WHEN state = 'running' THEN 1 ELSE 0 END,
    worker = %(worker)s,
    lease_expires_at = %(lease_end)s,
    started_at = COALESCE(started_at, %(now)s),
    fingerprint = CASE WHEN next_index <= 1 THEN %(fingerprint)s ELSE fingerprint END
WHERE id IN (SELECT id FROM chosen) AND {claimable}
RETURNING *
"""

#: SQLite allows no INSERT inside a query.
_CLAIM_AND_NOTE_ON_POSTGRESQL = f"""
WITH {_CHOSEN},
claimed AS ({_CLAIM}),
noted AS (
    INSERT INTO sessions_app_sessionevent (session_id, kind, at, attempt, worker)
    SELECT id, 'claimed', %(now)s, attempt, worker FROM claimed
)
SELECT * FROM claimed
"""  # noqa: S608  (put together from constants)
_CLAIM_ON_SQLITE = f"WITH {_CHOSEN} {_CLAIM}"

#: ``ChatSessionQuerySet.held_by`` and the update, for all sessions of ``item`` at once
_ADVANCE = """
UPDATE sessions_app_chatsession
SET next_index = next_index + item.count,
    lease_expires_at = %s,
    first_token_at = CASE WHEN item.tokens > 0 THEN COALESCE(first_token_at, %s) ELSE first_token_at END,
    completion_tokens = COALESCE(completion_tokens, 0) + item.tokens
FROM item
WHERE id = item.session_id AND state = 'running' AND attempt = item.held_attempt AND next_index = item.expected_index
RETURNING id, created_at
"""

_ADVANCE_AND_WRITE_ON_POSTGRESQL = f"""
WITH item AS (
    SELECT * FROM jsonb_to_recordset(%s::jsonb) AS item (
        session_id text, held_attempt integer, expected_index integer, count integer, tokens integer, pieces jsonb
    )
),
advanced AS ({_ADVANCE}),
written AS (
    INSERT INTO sessions_app_chunk (session_id, index, delta, token_ids, created_at)
    SELECT item.session_id, item.expected_index + piece.number - 1, piece.value -> 0, piece.value -> 1, %s
    FROM item
    JOIN advanced ON advanced.id = item.session_id
    CROSS JOIN jsonb_array_elements(item.pieces) WITH ORDINALITY AS piece (value, number)
)
SELECT id, created_at FROM advanced
"""  # noqa: S608  (as above)

#: ``json_extract`` and not ``->>``, which needs SQLite 3.38; ``RETURNING`` needs 3.35
_ADVANCE_ON_SQLITE = f"""
WITH item AS (
    SELECT json_extract(value, '$.session_id') AS session_id, json_extract(value, '$.held_attempt') AS held_attempt,
        json_extract(value, '$.expected_index') AS expected_index, json_extract(value, '$.count') AS count,
        json_extract(value, '$.tokens') AS tokens
    FROM json_each(%s)
)
{_ADVANCE}
"""  # noqa: S608  (as above)


class Advance(TypedDict):
    """One session's part of an append, in the form that the statements use."""

    session_id: str
    held_attempt: int
    expected_index: int
    count: int
    tokens: int
    #: (delta, token ids); not read on SQLite
    pieces: list[tuple[StoredDelta, Sequence[int]]]


def claim(
    chosen: str | Slot,
    *,
    worker: str,
    fingerprint: dict[str, Any],
    now: datetime.datetime,
    lease_end: datetime.datetime,
    limit: int = 1,
) -> list[ChatSession]:
    """Claim the session of this id, or up to ``limit`` whose turn it is for slots of this kind. Returns them.

    One statement: the requests wait for it, and the rows could change between a SELECT and an UPDATE. The sessions'
    events are written with it, on SQLite in the same transaction.
    """
    adapt = connection.ops.adapt_datetimefield_value
    values = {
        "worker": worker,
        "fingerprint": connection.ops.adapt_json_value(fingerprint, None),
        "now": adapt(now),
        "lease_end": adapt(lease_end),
        "max_attempts": settings.SESSION_MAX_ATTEMPTS,
    }
    if isinstance(chosen, Slot):
        expression = next_sessions(chosen, limit)
    else:
        expression, values["session_id"] = "SELECT %(session_id)s AS id", chosen
    places = {"chosen": expression, "claimable": CLAIMABLE}
    if connection.vendor == "postgresql":
        return list(ChatSession.objects.raw(_CLAIM_AND_NOTE_ON_POSTGRESQL.format(**places), values))
    with transaction.atomic():
        sessions = list(ChatSession.objects.raw(_CLAIM_ON_SQLITE.format(**places), values))
        SessionEvent.objects.bulk_create(
            SessionEvent(
                session=session, kind=SessionEvent.Kind.CLAIMED, at=now, attempt=session.attempt, worker=worker
            )
            for session in sessions
        )
    return sessions


def advance(
    items: Sequence[Advance], *, now: datetime.datetime, lease_end: datetime.datetime
) -> dict[str, datetime.datetime]:
    """Advance ``next_index`` and renew the lease of every session that its writer still holds.

    Returns these sessions' ids with their ``created_at``. PostgreSQL writes the chunks in the same statement, in one
    round trip where a transaction takes four. On SQLite the caller writes them, in the same transaction.
    """
    adapt = connection.ops.adapt_datetimefield_value
    values = [json.dumps(items), adapt(lease_end), adapt(now)]
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(_ADVANCE_AND_WRITE_ON_POSTGRESQL, [*values, adapt(now)])
        else:
            cursor.execute(_ADVANCE_ON_SQLITE, values)
        return {session_id: _in_utc(created_at) for session_id, created_at in cursor.fetchall()}


def insert_together(rows: Sequence[models.Model]) -> None:
    """Insert all of these rows, of any models, or none.

    PostgreSQL takes them in one statement. A transaction would take a round trip for each row and two for itself, while
    the request waits for its first token. Foreign keys are checked at the end of the statement, so rows may refer to
    each other.
    """
    if not rows:
        return
    if connection.vendor != "postgresql":
        with transaction.atomic():
            for row in rows:
                row.save(force_insert=True)
        return
    alike: dict[tuple[type[models.Model], bool], list[models.Model]] = {}
    for row in rows:
        alike.setdefault((type(row), row.pk is not None), []).append(row)
    inserts: list[str] = []
    values: list[Any] = []
    for (model, has_key), group in alike.items():
        # The database draws a key that is not set.
        fields = [field for field in model._meta.local_concrete_fields if has_key or not field.primary_key]
        query = InsertQuery(model)
        query.insert_values(fields, group)
        [(insert, group_values)] = query.get_compiler(connection=connection).as_sql()
        inserts.append(insert)
        values += group_values
    *first, last = inserts
    together = ", ".join(f"rows_{number} AS ({insert})" for number, insert in enumerate(first))
    with connection.cursor() as cursor:
        cursor.execute(f"WITH {together} {last}" if together else last, values)


def _in_utc(column: datetime.datetime) -> datetime.datetime:
    """SQLite stores no time zone: outside the ORM its times come back naive, in UTC."""
    return column if timezone.is_aware(column) else column.replace(tzinfo=datetime.UTC)
