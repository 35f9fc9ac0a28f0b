"""The history of a session: who claimed it, who gave it back, who resumed its stream."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from sessions_app.db import in_db
from sessions_app.hub import hub
from sessions_app.models import ChatSession, SessionEvent
from sessions_app.store import listening, sweeper, transitions
from sessions_app.store.listening import Resume, write_resumes
from tests.db.session_states import WORKER, claimed, claimed_next, completed, expire_lease, open_session

pytestmark = pytest.mark.django_db(transaction=True)

Kind = SessionEvent.Kind


def history(session: ChatSession) -> list[tuple[str, int | None, str]]:
    return list(session.events.values_list("kind", "attempt", "worker"))


def resume(session: ChatSession, after: int = 3) -> Resume:
    return Resume(session.pk, after, timezone.now())


def test_a_claim_notes_its_attempt_and_its_worker() -> None:
    session = open_session()
    assert history(session) == []
    claimed(session)
    assert history(session) == [(Kind.CLAIMED, 1, WORKER)]


def test_a_claim_in_turn_does_so_too_and_one_that_finds_nothing_notes_nothing() -> None:
    assert claimed_next("w1") is None
    assert not SessionEvent.objects.exists()
    session = open_session()
    assert claimed_next("w1") is not None
    assert history(session) == [(Kind.CLAIMED, 1, "w1")]


def test_a_claim_is_one_statement_on_postgresql() -> None:
    session = open_session()
    with CaptureQueriesContext(connection) as queries:
        claimed(session)
    assert connection.vendor != "postgresql" or len(queries) == 1


def test_a_session_that_is_handed_back_notes_by_whom() -> None:
    session = claimed(open_session())
    assert transitions.release(session.pk, session.attempt)
    assert history(session) == [(Kind.CLAIMED, 1, WORKER), (Kind.RELEASED, 1, WORKER)]


def test_a_released_session_waits_since_its_release() -> None:
    session = claimed(open_session())
    assert transitions.release(session.pk, session.attempt)
    session.refresh_from_db()
    assert session.enqueued_at == SessionEvent.objects.get(session=session, kind=Kind.RELEASED).at


def test_a_lease_that_expired_is_noted_when_the_sweeper_takes_the_session_back() -> None:
    session = claimed(open_session())
    expire_lease(session)
    sweeper.sweep()
    claimed(session)
    assert history(session) == [(Kind.CLAIMED, 1, WORKER), (Kind.LEASE_EXPIRED, 1, WORKER), (Kind.CLAIMED, 2, WORKER)]


def test_a_release_that_is_too_late_notes_nothing() -> None:
    session = claimed(open_session())
    assert not transitions.release(session.pk, session.attempt + 1)
    assert history(session) == [(Kind.CLAIMED, 1, WORKER)]


def test_resumes_are_noted_with_the_chunk_they_follow() -> None:
    session = completed()
    write_resumes([resume(session, after=2), resume(session, after=5)])
    resumed = session.events.filter(kind=Kind.RESUMED)
    assert list(resumed.values_list("index", flat=True)) == [2, 5]


def test_many_resumes_of_many_sessions_take_three_statements() -> None:
    sessions = [open_session() for _ in range(4)]
    with CaptureQueriesContext(connection) as queries:
        write_resumes([resume(session) for session in sessions for _ in range(5)])
    statements = [query["sql"] for query in queries if query["sql"] not in ("BEGIN", "COMMIT", "BEGIN IMMEDIATE")]
    assert len(statements) == 3
    assert SessionEvent.objects.count() == 20


def test_a_client_that_reconnects_for_ever_fills_no_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "MAX_RESUMES_OF_SESSION", 5)
    session, other = open_session(), open_session()
    for _ in range(4):
        write_resumes([resume(session)] * 3)
    write_resumes([resume(other)])
    assert session.events.count() == 5
    assert other.events.count() == 1


def test_a_resume_of_a_session_that_was_removed_is_passed_over() -> None:
    session = completed()
    write_resumes([Resume("sess_removed", 1, timezone.now()), resume(session)])
    assert [event.session_id for event in SessionEvent.objects.filter(kind=Kind.RESUMED)] == [session.pk]


def test_the_hub_writes_resumes_also_when_nobody_listens_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "HUB_POLL_SECONDS", 0.01)
    session = completed()

    async def main() -> None:
        async with asyncio.timeout(20):
            hub().note_resume(session.pk, 2)
            async for _ in hub().follow(session, 2, idle_seconds=1.0):
                pass
            while not await in_db(session.events.filter(kind=Kind.RESUMED).exists):  # noqa: ASYNC110  (a database)
                await asyncio.sleep(0.01)

    asyncio.run(main())
    assert session.events.get(kind=Kind.RESUMED).index == 2


@pytest.mark.parametrize("keep", [True, False])
def test_the_history_stays_with_the_summary_and_goes_with_it(keep: bool) -> None:
    session = completed()
    sweeper.expire(session.pk)
    days = settings.SESSIONS_HISTORY_DAYS + (-1 if keep else 1)
    long_ago: Any = timezone.now() - datetime.timedelta(days=days)
    ChatSession.objects.filter(pk=session.pk).update(finished_at=long_ago)
    sweeper.delete_old_rows()
    assert SessionEvent.objects.exists() is keep
