"""What moves a session, as a specification: each action, who may take it, and what it refuses."""

from __future__ import annotations

import datetime
import random
import threading
import time
from typing import Any

import pytest
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from config.celery_app import app as celery_app
from sessions_app import actions, appending, opening, queue, wakeups
from sessions_app.appending import Append, Closing, Piece
from sessions_app.models import ChatSession, Chunk, Presence, SessionMedia
from sessions_app.opening import QueueFull, SessionConflict
from sessions_app.wakeups import Wakeup
from tests.db.session_states import WORKER, claimed, completed, open_session, png, say, text
from tests.db.threads import at_once, times

pytestmark = pytest.mark.django_db(transaction=True)

State = ChatSession.State
ERROR = {"message": "it broke", "type": "server_error", "param": None, "code": "broken"}


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids that were sent to the workers; nothing takes them."""
    ids: list[str] = []
    monkeypatch.setattr(queue, "send", ids.append)
    return ids


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Wakeup]:
    """What the hubs were told."""
    heard: list[Wakeup] = []
    monkeypatch.setattr(wakeups, "publish", heard.extend)
    return heard


def lapse(session: ChatSession) -> None:
    ChatSession.objects.filter(pk=session.pk).update(lease_expires_at=timezone.now() - datetime.timedelta(seconds=1))


def log_of(session: ChatSession) -> list[tuple[int, str]]:
    """The chunks: index, and text or type."""
    rows = Chunk.objects.after(session.pk, -1).values_list("index", "delta")
    return [(index, delta.get("text", delta["type"])) for index, delta in rows]


def append(session: ChatSession, *texts: str, index: int | None = None, **fields: Any) -> bool:
    """Append as the session's worker; False when it is lost."""
    at = session.next_index if index is None else index
    pieces = [Piece(text(value), [ord(value[0])]) for value in texts]
    if appending.append([Append(session.pk, session.attempt, at, pieces, **fields)]):
        return False
    session.next_index = at + len(pieces)
    return True


def check_log(session: ChatSession) -> None:
    """The invariants of every log, whatever happened to it."""
    session.refresh_from_db()
    chunks = list(Chunk.objects.after(session.pk, -1))
    assert [chunk.index for chunk in chunks] == list(range(session.next_index))
    assert [chunk.is_terminal for chunk in chunks[:-1]] == [False] * (len(chunks) - 1)
    assert chunks[-1].is_terminal == session.is_finished
    assert (session.finished_at is not None) == session.is_finished


# --- open ---


def test_opening_writes_the_session_its_first_chunk_its_media_and_a_listener(sent: list[str]) -> None:
    session = open_session("Apa ini?", media=[png(), png("image/x-png")], request_id="r1", session_id="mine")
    session.refresh_from_db()
    assert (session.pk, session.state, session.attempt, session.next_index) == ("mine", State.QUEUED, 0, 1)
    assert session.request["messages"][0]["content"][0]["text"] == "Apa ini?"
    assert (session.request_id, session.model, session.origin) == ("r1", "tiny", "chat")
    assert log_of(session) == [(0, "start")]
    assert list(session.media.values_list("position", "content_type")) == [(0, "image/png"), (1, "image/x-png")]
    stored = session.media.first()
    assert stored is not None
    assert (bytes(stored.data), stored.size) == (png().data, len(png().data))
    assert session.presence.seen_at == session.created_at == session.enqueued_at
    assert sent == ["mine"]


def test_ids_of_ours_cannot_be_guessed(sent: list[str]) -> None:
    ids = {open_session().pk for _ in range(20)}
    assert len(ids) == 20
    assert all(len(id_) > 30 for id_ in ids)


def test_opening_again_with_the_same_request_gives_the_same_session(sent: list[str]) -> None:
    first, is_new = opening.open_session(session_id="a", request={"x": 1}, request_digest="d", model="tiny")
    again, is_new_again = opening.open_session(session_id="a", request={"x": 2}, request_digest="d", model="tiny")
    assert (is_new, is_new_again) == (True, False)
    assert again.pk == first.pk
    assert again.request == {"x": 1}
    assert log_of(again) == [(0, "start")]
    assert sent == ["a"]


def test_opening_with_another_request_is_a_conflict_and_changes_nothing(sent: list[str]) -> None:
    session = open_session(session_id="a")
    with pytest.raises(SessionConflict):
        open_session(session_id="a", request_digest="other", media=[png()])
    assert log_of(session) == [(0, "start")]
    assert not SessionMedia.objects.exists()
    assert sent == ["a"]


def test_a_session_is_sent_to_the_workers_only_when_it_is_committed(sent: list[str]) -> None:
    with transaction.atomic():
        open_session(session_id="a")
        assert sent == []
    assert sent == ["a"]


def test_a_session_that_is_rolled_back_is_not_sent_and_leaves_nothing(sent: list[str]) -> None:
    with pytest.raises(RuntimeError), transaction.atomic():
        open_session(session_id="a", media=[png()])
        raise RuntimeError
    assert sent == []
    assert not (ChatSession.objects.exists() or Chunk.objects.exists() or Presence.objects.exists())


def test_media_that_cannot_be_stored_leave_no_session_behind(sent: list[str]) -> None:
    broken = png()
    object.__setattr__(broken, "sha256", None)
    with pytest.raises(IntegrityError):
        open_session(session_id="a", media=[png(), broken])
    assert not (ChatSession.objects.exists() or SessionMedia.objects.exists() or Chunk.objects.exists())
    assert sent == []


def test_a_full_queue_takes_no_more_but_knows_its_own(sent: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "MAX_QUEUED_SESSIONS", 2)
    open_session(session_id="a")
    running = claimed(open_session(session_id="b"))
    open_session(session_id="c")
    with pytest.raises(QueueFull):
        open_session(session_id="d")
    assert sorted(ChatSession.objects.values_list("pk", flat=True)) == ["a", "b", "c"]
    assert open_session(session_id="a").pk == "a"
    assert open_session(session_id="b").pk == running.pk


def test_of_many_that_open_one_id_at_once_one_is_new(sent: list[str]) -> None:
    def one() -> bool:
        return opening.open_session(session_id="a", request={}, request_digest="d", model="tiny")[1]

    assert sorted(at_once(*times(one, 6))) == [False] * 5 + [True]
    assert sent == ["a"]
    assert Chunk.objects.count() == 1


def test_a_broker_that_is_down_does_not_undo_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    def down(*args: object, **kwargs: object) -> None:
        raise ConnectionError

    monkeypatch.setattr(celery_app, "send_task", down)
    assert open_session(session_id="a").state == State.QUEUED


# --- claim ---


def test_a_claim_gives_a_lease_and_a_higher_number() -> None:
    session = actions.claim(open_session().pk, worker="w1")
    assert session is not None
    assert (session.state, session.attempt, session.worker, session.next_index) == (State.RUNNING, 1, "w1", 1)
    assert session.lease_expires_at is not None
    assert session.lease_expires_at > timezone.now()
    assert session.started_at is not None


def test_what_runs_or_has_ended_or_is_not_there_cannot_be_claimed() -> None:
    assert actions.claim(claimed(open_session()).pk, worker="w2") is None
    assert actions.claim(completed().pk, worker="w2") is None
    assert actions.claim("none", worker="w2") is None


def test_a_lapsed_lease_can_be_claimed_and_the_first_start_is_kept() -> None:
    first = claimed(open_session())
    lapse(first)
    second = actions.claim(first.pk, worker="w2")
    assert second is not None
    assert (second.attempt, second.worker, second.started_at) == (2, "w2", first.started_at)


@pytest.mark.parametrize("is_lapsed", [False, True])
def test_of_many_claims_at_once_one_gets_it(is_lapsed: bool) -> None:
    for _ in range(5):
        session = open_session()
        if is_lapsed:
            claimed(session)
            lapse(session)
        got = at_once(*times(lambda: actions.claim(session.pk, worker="w"), 4))  # noqa: B023
        assert [claim.attempt for claim in got if claim] == [2 if is_lapsed else 1]


def test_the_number_rises_with_every_claim() -> None:
    session = open_session()
    for attempt in range(1, 5):
        assert claimed(session).attempt == attempt
        lapse(session)


def test_a_claim_notes_its_fingerprint_until_something_is_said() -> None:
    session = claimed(open_session(), revision="a")
    assert session.fingerprint == {"revision": "a"}
    lapse(session)
    assert claimed(session, revision="b").fingerprint == {"revision": "b"}
    say(session, text("Sebuah"))
    lapse(session)
    assert claimed(session, revision="c").fingerprint == {"revision": "b"}


def test_one_that_has_lost_too_many_workers_is_left_alone(settings: Any) -> None:
    settings.SESSION_MAX_ATTEMPTS = 2
    session = claimed(open_session())
    lapse(session)
    assert claimed(session).workers_lost == 1
    lapse(session)
    assert actions.claim(session.pk, worker="w3") is None


# --- append ---


def test_chunks_follow_each_other_and_the_hubs_are_told(told: list[Wakeup]) -> None:
    session = claimed(open_session())
    assert append(session, "a", "b")
    assert append(session, "c")
    assert log_of(session) == [(0, "start"), (1, "a"), (2, "b"), (3, "c")]
    assert [(wakeup.last_index, [chunk.index for chunk in wakeup.chunks]) for wakeup in told] == [(2, [1, 2]), (3, [3])]
    assert Chunk.objects.token_ids_of(session.pk) == [97, 98, 99]
    check_log(session)


@pytest.mark.parametrize("index", [0, 1, 3, 99])
def test_an_append_at_a_wrong_index_is_refused_whole(index: int) -> None:
    session = claimed(open_session())
    assert append(session, "a")
    assert not append(session, "b", "c", index=index, closing=Closing())
    assert log_of(session) == [(0, "start"), (1, "a")]
    check_log(session)


def test_the_writer_of_an_old_attempt_is_refused() -> None:
    zombie = claimed(open_session())
    assert append(zombie, "a")
    lapse(zombie)
    heir = claimed(zombie)
    assert not append(zombie, "z")
    assert not append(zombie, "z", closing=Closing())
    assert append(heir, "b", closing=Closing())
    assert [said for _, said in log_of(heir)] == ["start", "a", "b", "finish", "usage", "end"]
    check_log(heir)


def test_nothing_is_appended_after_the_end() -> None:
    session = claimed(open_session())
    assert append(session, "a", closing=Closing())
    session.refresh_from_db()
    assert not append(session, "b")
    assert not append(session, closing=Closing())
    check_log(session)


def test_nothing_is_appended_to_what_was_handed_back() -> None:
    session = claimed(open_session())
    assert actions.release(session.pk, session.attempt)
    assert not append(session, "a")
    assert log_of(session) == [(0, "start")]


def test_a_lapsed_lease_that_nobody_took_may_still_be_written() -> None:
    session = claimed(open_session())
    lapse(session)
    assert append(session, "a")
    assert not ChatSession.objects.lapsed().exists()


def test_one_lost_session_does_not_hold_up_the_others_of_its_commit(told: list[Wakeup]) -> None:
    sessions = [claimed(open_session(session_id=name)) for name in "cab"]
    lapse(sessions[1])
    claimed(sessions[1])
    lost = appending.append(
        Append(session.pk, session.attempt, 1, [Piece(text(session.pk), [1])]) for session in sessions
    )
    assert lost == {"a"}
    assert [log_of(session)[1:] for session in sessions] == [[(1, "c")], [], [(1, "b")]]
    assert {wakeup.session_id for wakeup in told} == {"b", "c"}


def test_an_append_without_pieces_renews_the_lease_and_tells_nobody(told: list[Wakeup]) -> None:
    session = claimed(open_session())
    lapse(session)
    assert append(session)
    session.refresh_from_db()
    assert session.lease_expires_at is not None
    assert session.lease_expires_at > timezone.now()
    assert session.first_token_at is None
    assert told == []


def test_the_time_of_the_first_token_is_that_of_the_first_commit_with_tokens() -> None:
    session = claimed(open_session())
    assert not appending.append([Append(session.pk, 1, 1, [Piece(text(""))])])
    session.refresh_from_db()
    assert session.first_token_at is None
    assert append(session, "a")
    session.refresh_from_db()
    first = session.first_token_at
    assert first is not None
    assert append(session, "b")
    session.refresh_from_db()
    assert session.first_token_at == first


def test_a_commit_that_fails_writes_nothing_and_tells_nobody(told: list[Wakeup]) -> None:
    session = claimed(open_session())
    # An index that is taken although the session does not know of it: the insert fails behind the update.
    Chunk.objects.create(session=session, index=2, delta=text("x"))
    with pytest.raises(IntegrityError):
        append(session, "a", "b")
    session.refresh_from_db()
    assert session.next_index == 1
    assert Chunk.objects.filter(session=session).count() == 2
    assert told == []


def test_hubs_that_cannot_be_told_do_not_undo_a_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(told: object) -> None:
        raise ValueError

    monkeypatch.setattr(wakeups.transport(), "publish", broken)
    session = claimed(open_session())
    assert append(session, "a", closing=Closing())
    check_log(session)


# --- the end ---


@pytest.mark.parametrize(
    ("closing", "state", "reason", "terminal"),
    [
        (Closing(reason="stop"), State.COMPLETED, "stop", "end"),
        (Closing(reason="length"), State.COMPLETED, "length", "end"),
        (Closing(reason="cancelled"), State.CANCELLED, "cancelled", "end"),
        (Closing(error=ERROR, error_status=503), State.FAILED, "", "error"),
    ],
)
def test_a_session_ends_with_one_terminal_chunk(closing: Closing, state: str, reason: str, terminal: str) -> None:
    session = claimed(open_session())
    assert append(session, "a", closing=closing)
    check_log(session)
    assert (session.state, session.finish_reason, session.lease_expires_at) == (state, reason, None)
    assert log_of(session)[-1][1] == terminal
    assert session.error == closing.error


def test_the_end_says_what_was_used() -> None:
    session = claimed(open_session())
    assert append(session, "a", closing=Closing(prompt_tokens=7, completion_tokens=5, reasoning_tokens=2))
    session.refresh_from_db()
    assert (session.prompt_tokens, session.completion_tokens) == (7, 5)
    usage = Chunk.objects.get(session=session, index=3).delta
    assert usage == {"type": "usage", "prompt_tokens": 7, "completion_tokens": 5, "reasoning_tokens": 2}


def test_the_database_itself_refuses_an_end_without_a_time() -> None:
    session = open_session()
    with pytest.raises(IntegrityError):
        ChatSession.objects.filter(pk=session.pk).update(state=State.COMPLETED)
    with pytest.raises(IntegrityError):
        ChatSession.objects.filter(pk=session.pk).update(finished_at=timezone.now())


def test_an_index_is_taken_once() -> None:
    session = open_session()
    with pytest.raises(IntegrityError):
        Chunk.objects.create(session=session, index=0, delta=text("again"))


# --- release ---


def test_a_session_handed_back_waits_again_with_what_it_has(sent: list[str]) -> None:
    session = claimed(open_session(session_id="a"))
    assert append(session, "a")
    assert actions.release("a", 1)
    session.refresh_from_db()
    assert (session.state, session.attempt, session.next_index, session.worker) == (State.QUEUED, 1, 2, "")
    assert sent == ["a", "a"]
    heir = claimed(session)
    assert (heir.attempt, heir.next_index) == (2, 2)


def test_only_its_holder_hands_a_session_back(sent: list[str]) -> None:
    session = claimed(open_session(session_id="a"))
    lapse(session)
    claimed(session)
    assert not actions.release("a", 1)
    assert not actions.release(completed().pk, 1)
    session.refresh_from_db()
    assert session.state == State.RUNNING


def test_a_session_handed_back_after_a_cancel_ends_at_once() -> None:
    session = claimed(open_session())
    assert append(session, "a")
    actions.request_cancel(session.pk)
    assert actions.release(session.pk, 1)
    check_log(session)
    assert session.state == State.CANCELLED


# --- cancel and fail ---


def test_what_waits_is_cancelled_at_once(told: list[Wakeup]) -> None:
    session = open_session()
    assert actions.request_cancel(session.pk).state == State.CANCELLED
    check_log(session)
    assert log_of(session) == [(0, "start"), (1, "finish"), (2, "usage"), (3, "end")]
    assert (session.finish_reason, session.completion_tokens) == ("cancelled", 0)
    assert told[-1].last_index == 3
    assert actions.claim(session.pk, worker=WORKER) is None


def test_what_runs_is_marked_for_its_worker() -> None:
    session = claimed(open_session())
    assert actions.request_cancel(session.pk).state == State.RUNNING
    assert actions.cancel_requested_among([session.pk, "none"]) == {session.pk}
    session.refresh_from_db()
    first = session.cancel_requested_at
    assert actions.request_cancel(session.pk).cancel_requested_at == first
    assert append(session, "a", closing=Closing(reason="cancelled"))
    assert actions.cancel_requested_among([session.pk]) == set()


def test_what_a_dead_worker_ran_is_cancelled_at_once_and_the_dead_stay_dead() -> None:
    session = claimed(open_session())
    assert append(session, "a", "b")
    lapse(session)
    assert actions.request_cancel(session.pk).state == State.CANCELLED
    zombie = session.attempt
    check_log(session)
    assert session.attempt > zombie
    assert session.completion_tokens == 2


@pytest.mark.parametrize("closing", [Closing(), Closing(reason="cancelled"), Closing(error=ERROR)])
def test_cancelling_what_has_ended_changes_nothing(closing: Closing) -> None:
    session = claimed(open_session())
    assert append(session, "a", closing=closing)
    session.refresh_from_db()
    before = log_of(session)
    after = actions.request_cancel(session.pk)
    assert (after.state, after.attempt, after.next_index) == (session.state, session.attempt, session.next_index)
    assert after.cancel_requested_at is None
    assert log_of(session) == before


def test_cancelling_what_is_not_there_says_so() -> None:
    with pytest.raises(ChatSession.DoesNotExist):
        actions.request_cancel("none")


def test_what_nobody_runs_can_be_failed_and_keeps_what_it_has() -> None:
    waiting, dead = open_session(), claimed(open_session())
    assert append(dead, "a")
    lapse(dead)
    for session in (waiting, dead):
        assert actions.fail(session.pk, error=ERROR, status=503)
        check_log(session)
        assert (session.state, session.error) == (State.FAILED, ERROR)
        last = Chunk.objects.get(session=session, index=session.next_index - 1)
        assert last.delta == {"type": "error", "error": ERROR, "status": 503}
    assert not append(dead, "z")


def test_what_somebody_runs_or_has_ended_is_not_failed() -> None:
    for session in (claimed(open_session()), completed()):
        assert not actions.fail(session.pk, error=ERROR)
        check_log(session)
    assert not actions.fail("none", error=ERROR)


# --- all of it at the same time ---


@pytest.mark.parametrize("end", [actions.request_cancel, lambda pk: actions.fail(pk, error=ERROR)])
def test_of_many_ends_at_once_one_is_written(end: Any) -> None:
    for _ in range(5):
        session = claimed(open_session())
        lapse(session)
        at_once(
            lambda: end(session.pk),  # noqa: B023
            lambda: actions.request_cancel(session.pk),  # noqa: B023
            lambda: append(session, "a", closing=Closing()),  # noqa: B023
            lambda: actions.fail(session.pk, error=ERROR),  # noqa: B023
        )
        check_log(session)
        assert session.is_finished


def test_a_zombie_never_writes_between_the_lines_of_its_heirs(settings: Any) -> None:
    """Writers append as fast as they can while others claim the session from under them."""
    settings.SESSION_MAX_ATTEMPTS = 1000
    for round_ in range(2):
        session = open_session(session_id=f"round-{round_}")
        over = threading.Event()

        def write() -> list[int]:
            """Claim whenever it can be had, and write until it is lost; the attempts that this thread wrote as."""
            mine: list[int] = []
            while not over.is_set():  # noqa: B023
                held = actions.claim(session.pk, worker="w")  # noqa: B023
                if held is None:
                    continue
                mine.append(held.attempt)
                while append(held, f"{held.attempt}"):
                    # Its lease lapses, and it does not know: others may claim while it goes on.
                    lapse(held)
                    time.sleep(random.uniform(0, 0.002))
                    if held.attempt > 8:
                        over.set()  # noqa: B023
                        break
            return mine

        attempts = [attempt for mine in at_once(*times(write, 3)) for attempt in mine]
        assert len(attempts) == len(set(attempts))
        check_log(session)
        wrote = [int(said) for _, said in log_of(session)[1:]]
        assert wrote == sorted(wrote)
        assert len(set(wrote)) > 1


def test_group_commits_of_the_same_sessions_do_not_wait_for_each_other_for_ever() -> None:
    sessions = [claimed(open_session(session_id=f"s{n}")) for n in range(6)]

    def write(order: list[ChatSession]) -> int:
        lost = 0
        for _ in range(15):
            lost += len(appending.append([Append(s.pk, 1, s.next_index, [Piece(text("x"), [1])]) for s in order]))
            for s in order:
                s.next_index += 1
        return lost

    copies = [[ChatSession.objects.get(pk=s.pk) for s in order] for order in (sessions, sessions[::-1])]
    lost = at_once(lambda: write(copies[0]), lambda: write(copies[1]))
    # Each index is written once, by one of the two.
    assert sum(lost) == 2 * 15 * 6 - sum(s.next_index - 1 for s in ChatSession.objects.all())
    for session in sessions:
        check_log(session)


def test_say_and_completed_make_logs_that_hold(sent: list[str]) -> None:
    session = claimed(open_session())
    say(session, text("a"))
    check_log(session)
    check_log(completed())
