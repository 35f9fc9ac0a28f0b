"""What time does to sessions. Each step is a conditional change: any number of sweepers may run at once."""

from __future__ import annotations

import datetime
import threading
from collections.abc import Callable, Iterator

import pytest
from django.conf import settings
from django.db import OperationalError
from django.utils import timezone

from sessions_app.errors import ApiError
from sessions_app.models import ChatSession, Chunk, Presence, SessionMedia
from sessions_app.signals import swept
from sessions_app.store import queue, sweeper, transitions
from sessions_app.store.sweeper import Sweeper, sweep
from tests.db.session_states import claimed, completed, failed, open_session, png, say, text
from tests.db.threads import DEADLINE_SECONDS, at_once, times

pytestmark = pytest.mark.django_db(transaction=True)

State = ChatSession.State


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids that were sent to the workers; nothing takes them."""
    ids: list[str] = []
    monkeypatch.setattr(queue, "send", ids.append)
    return ids


@pytest.fixture
def on_swept() -> Iterator[Callable[[Callable[..., None]], None]]:
    connected: list[Callable[..., None]] = []

    def connect(receiver: Callable[..., None]) -> None:
        swept.connect(receiver)
        connected.append(receiver)

    yield connect
    for receiver in connected:
        swept.disconnect(receiver)


def ago(seconds: float) -> datetime.datetime:
    return timezone.now() - datetime.timedelta(seconds=seconds)


def change(session: ChatSession, **columns: object) -> ChatSession:
    ChatSession.objects.filter(pk=session.pk).update(**columns)
    return session


def with_expired_lease(**columns: object) -> ChatSession:
    session = claimed(open_session())
    say(session, text("ya"))
    return change(session, lease_expires_at=ago(1), **columns)


def state_of(session: ChatSession) -> str:
    session.refresh_from_db()
    return session.state


def unheard(session: ChatSession, seconds: float) -> ChatSession:
    Presence.objects.filter(session=session).update(seen_at=ago(seconds))
    return session


def test_with_nothing_to_do_nothing_is_moved(sent: list[str]) -> None:
    open_session()
    claimed(open_session())
    completed()
    sent.clear()
    assert not sweep()
    assert sent == []


# --- Lapsed leases ---


def test_a_session_of_a_silent_worker_goes_back_to_the_queue(sent: list[str]) -> None:
    session = with_expired_lease()
    sent.clear()
    assert sweep() == {"released": 1}
    assert state_of(session) == State.QUEUED
    assert sent == [session.pk]
    assert session.next_index == 2
    assert not sweep()


def test_a_silent_worker_that_renews_in_time_keeps_its_session() -> None:
    session = with_expired_lease()
    say(session, text("masih"))
    assert not sweep()
    assert state_of(session) == State.RUNNING


def test_what_is_renewed_between_the_look_and_the_change_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    session = with_expired_lease()
    release = transitions.release

    def late(*args: object, **kwargs: object) -> bool:
        say(session, text("masih"))
        return release(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(transitions, "release", late)
    sweeper.release_expired_leases()
    assert state_of(session) == State.RUNNING


def test_after_its_last_attempt_a_session_fails_with_what_it_has() -> None:
    session = with_expired_lease(workers_lost=settings.SESSION_MAX_ATTEMPTS - 1)
    sweep()
    assert state_of(session) == State.FAILED
    assert session.error is not None
    assert session.error["code"] == "worker_lost"
    assert [chunk.delta["type"] for chunk in Chunk.objects.after(session.pk, -1)] == ["start", "text", "error"]


def test_what_was_to_be_cancelled_ends_when_its_worker_is_lost() -> None:
    session = with_expired_lease(cancel_requested_at=timezone.now())
    sweep()
    assert state_of(session) == State.CANCELLED
    assert Chunk.objects.filter(session=session).last().is_terminal  # type: ignore[union-attr]


# --- Nobody listens ---


def test_what_nobody_hears_is_cancelled_whatever_its_state() -> None:
    waiting, running, heard, done = open_session(), claimed(open_session()), open_session(), completed()
    for session in (waiting, running, done):
        unheard(session, settings.CANCEL_AFTER_DISCONNECT_SECONDS + 1)
    assert sweep() == {"cancelled": 2}
    assert state_of(waiting) == State.CANCELLED
    assert state_of(running) == State.RUNNING
    assert running.cancel_requested_at is not None
    assert state_of(heard) == State.QUEUED
    assert state_of(done) == State.COMPLETED
    assert not sweep()


def test_zero_leaves_what_nobody_hears_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "CANCEL_AFTER_DISCONNECT_SECONDS", 0.0)
    monkeypatch.setattr(settings, "CANCEL_UNNAMED_AFTER_SECONDS", 0.0)
    session = unheard(open_session(), 1e6)
    assert not sweep()
    assert state_of(session) == State.QUEUED


def test_what_its_caller_did_not_name_is_cancelled_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "CANCEL_UNNAMED_AFTER_SECONDS", 60.0)
    unnamed, fresh, named, card = (
        open_session(),
        open_session(),
        open_session(session_id="mine"),
        open_session(origin="ocr", needs_listener=False),
    )
    Presence.objects.create(session=card, seen_at=timezone.now())
    for session in (unnamed, named, card):
        unheard(session, 61)
    unheard(fresh, 50)
    assert sweep() == {"cancelled": 1}
    assert [state_of(session) for session in (unnamed, fresh, named, card)] == [
        State.CANCELLED,
        State.QUEUED,
        State.QUEUED,
        State.QUEUED,
    ]


@pytest.mark.parametrize(("named", "unnamed"), [(3600.0, 0.0), (0.0, 60.0), (10.0, 60.0)])
def test_the_two_limits_count_apart(monkeypatch: pytest.MonkeyPatch, named: float, unnamed: float) -> None:
    monkeypatch.setattr(settings, "CANCEL_AFTER_DISCONNECT_SECONDS", named)
    monkeypatch.setattr(settings, "CANCEL_UNNAMED_AFTER_SECONDS", unnamed)
    sessions = {"named": open_session(session_id="mine"), "unnamed": open_session()}
    for session in sessions.values():
        unheard(session, 61)
    sweep()
    ended = {name for name, session in sessions.items() if state_of(session) == State.CANCELLED}
    # Whoever set the limit for all to less than the one for the unnamed meant all.
    assert ended == {
        name
        for name, limits in {"named": [named], "unnamed": [named, unnamed]}.items()
        for limit in limits
        if 0 < limit < 61
    }


def test_what_needs_no_listener_is_not_cancelled_for_want_of_one() -> None:
    session = open_session(needs_listener=False)
    change(session, created_at=ago(settings.CANCEL_AFTER_DISCONNECT_SECONDS + 1))
    assert not sweep()
    assert state_of(session) == State.QUEUED


# --- Expiry ---


def test_an_old_stream_goes_and_its_summary_stays() -> None:
    session = completed(media=[png()])
    change(session, finished_at=ago(settings.SESSIONS_TTL_SECONDS + 1))
    assert sweep() == {"expired": 1}
    session.refresh_from_db()
    assert session.expired_at is not None
    assert (session.state, session.request, session.completion_tokens) == (State.COMPLETED, {}, 3)
    assert not (Chunk.objects.exists() or SessionMedia.objects.exists() or Presence.objects.exists())
    assert not sweep()


@pytest.mark.parametrize("make", [open_session, with_expired_lease, completed, failed])
def test_what_runs_or_has_just_ended_does_not_expire(make: Callable[[], ChatSession]) -> None:
    session = change(make(), created_at=ago(settings.SESSIONS_TTL_SECONDS * 10))
    sweeper.expire_finished()
    session.refresh_from_db()
    assert session.expired_at is None
    assert Chunk.objects.filter(session=session).exists()


def test_expiring_what_has_not_ended_does_nothing() -> None:
    session = claimed(open_session(media=[png()]))
    sweeper.expire(session.pk)
    session.refresh_from_db()
    assert session.expired_at is None
    assert (session.chunks.count(), session.media.count()) == (1, 1)


def test_an_expiry_that_breaks_off_is_done_whole_the_next_time(monkeypatch: pytest.MonkeyPatch) -> None:
    session = completed(media=[png()])
    change(session, finished_at=ago(settings.SESSIONS_TTL_SECONDS + 1))

    def broken(*args: object, **kwargs: object) -> None:
        raise OperationalError("away")

    with monkeypatch.context() as breaking:
        breaking.setattr(SessionMedia.objects, "filter", broken)
        with pytest.raises(OperationalError):
            sweep()
    session.refresh_from_db()
    assert session.expired_at is None
    assert (session.chunks.count(), session.media.count()) == (6, 1)
    assert sweep() == {"expired": 1}
    assert not (Chunk.objects.exists() or SessionMedia.objects.exists())


def grace_seconds() -> float:
    return 3 * (settings.HUB_PRESENCE_SECONDS + settings.HUB_POLL_SECONDS)


def test_without_persistence_a_stream_goes_when_its_last_listener_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "PERSIST_SESSIONS", False)
    left, heard, fresh, running = completed(), completed(), completed(), claimed(open_session())
    for session in (left, heard):
        change(session, finished_at=ago(grace_seconds() + 1))
    for session in (left, fresh, running):
        unheard(session, grace_seconds() + 1)
    assert sweep() == {"expired": 1}
    left.refresh_from_db()
    assert left.expired_at is not None
    assert not left.chunks.exists()
    for session in (heard, fresh, running):
        assert session.chunks.exists()


def test_with_persistence_a_stream_stays_when_its_last_listener_has_left() -> None:
    session = unheard(change(completed(), finished_at=ago(grace_seconds() + 1)), grace_seconds() + 1)
    assert not sweep()
    assert session.chunks.exists()


# --- History ---


def test_old_summaries_are_deleted() -> None:
    days = datetime.timedelta(days=settings.SESSIONS_HISTORY_DAYS, seconds=1).total_seconds()
    old, young = completed(), completed()
    for session in (old, young):
        sweeper.expire(session.pk)
    change(old, finished_at=ago(days))
    change(young, created_at=ago(days))
    assert sweep() == {"deleted": 1}
    assert list(ChatSession.objects.values_list("pk", flat=True)) == [young.pk]


# --- All steps ---


def test_a_step_takes_a_batch_at_a_time(monkeypatch: pytest.MonkeyPatch, sent: list[str]) -> None:
    monkeypatch.setattr(sweeper, "BATCH_SESSIONS", 2)
    for _ in range(3):
        with_expired_lease()
        change(completed(), finished_at=ago(settings.SESSIONS_TTL_SECONDS + 1))
        unheard(claimed(open_session()), settings.CANCEL_AFTER_DISCONNECT_SECONDS + 1)
    assert sweep() == {"released": 2, "expired": 2, "cancelled": 2}
    assert sweep() == {"released": 1, "expired": 1, "cancelled": 1}
    assert not sweep()


def test_many_sweepers_at_once_move_each_session_once(sent: list[str]) -> None:
    sessions = [with_expired_lease() for _ in range(4)] + [
        with_expired_lease(workers_lost=settings.SESSION_MAX_ATTEMPTS - 1) for _ in range(4)
    ]
    expiring = [change(completed(), finished_at=ago(settings.SESSIONS_TTL_SECONDS + 1)) for _ in range(4)]
    sent.clear()
    at_once(*times(sweep, 4))
    assert sorted(sent) == sorted(session.pk for session in sessions[:4])
    assert [state_of(session) for session in sessions] == [State.QUEUED] * 4 + [State.FAILED] * 4
    assert not Chunk.objects.filter(session__in=expiring).exists()
    for session in sessions[4:]:
        assert sum(chunk.is_terminal for chunk in session.chunks.all()) == 1


def test_receivers_hear_of_every_sweep_before_anything_expires(
    on_swept: Callable[[Callable[..., None]], None],
) -> None:
    session = change(completed(), finished_at=ago(settings.SESSIONS_TTL_SECONDS + 1))
    chunks_seen: list[int] = []

    def look(**kwargs: object) -> None:
        chunks_seen.append(session.chunks.count())

    on_swept(look)
    sweep()
    sweep()
    assert chunks_seen == [6, 0]


def test_a_receiver_that_fails_is_logged_and_stops_nothing(
    on_swept: Callable[[Callable[..., None]], None], caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[str] = []

    def fail(**kwargs: object) -> None:
        raise RuntimeError("of the receiver")

    def hear(**kwargs: object) -> None:
        heard.append("swept")

    on_swept(fail)
    on_swept(hear)
    change(completed(), finished_at=ago(settings.SESSIONS_TTL_SECONDS + 1))
    assert sweep() == {"expired": 1}
    assert heard == ["swept"]
    assert "of the receiver" in caplog.text


@pytest.mark.parametrize("exc", [OperationalError("away"), RuntimeError("odd")])
def test_the_sweepers_thread_goes_on_after_a_failure(
    exc: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(settings, "SWEEP_SECONDS", 0.01)
    failures = iter([exc])
    thread = Sweeper()
    swept_again = []

    def failing() -> None:
        if failure := next(failures, None):
            raise failure
        swept_again.append(True)
        thread._stopping.set()

    monkeypatch.setattr(sweeper, "sweep", failing)
    thread.start()
    thread.join(20)
    assert swept_again
    assert str(exc) in caplog.text


def test_the_sweepers_thread_ends_when_it_is_stopped_between_two_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "SWEEP_SECONDS", 3600)
    swept_once = threading.Event()
    monkeypatch.setattr(sweeper, "sweep", swept_once.set)
    thread = Sweeper()
    thread.start()
    assert swept_once.wait(DEADLINE_SECONDS)

    thread.stop(DEADLINE_SECONDS)

    assert not thread.is_alive()


def test_a_failed_session_expires_like_any_other() -> None:
    change(failed(), finished_at=ago(settings.SESSIONS_TTL_SECONDS + 1))
    waiting = open_session()
    transitions.fail(waiting.pk, ApiError("it broke"))
    change(waiting, finished_at=ago(settings.SESSIONS_TTL_SECONDS + 1))
    assert sweep() == {"expired": 2}
