"""``manage.py sessions``: what an operator on a terminal sees of sessions, and does to them."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import OperationalError, connections

from sessions_app.history.models import HistoryFigure
from sessions_app.management import tail
from sessions_app.models import ChatSession, Chunk
from sessions_app.store import sweeper
from sessions_app.store.appending import Closing
from tests.db.session_states import claimed, completed, failed, log_of, open_session, reasoning, say, text
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

DEADLINE_SECONDS = 20.0
QUESTION = "What is a kucilpandai?"


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("sessions", *arguments, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_the_list_shows_the_youngest_first_and_no_whole_id() -> None:
    old, young = completed(), claimed(open_session(QUESTION))
    head, first, second = run("list").splitlines()
    assert head.split() == [
        "SESSION",
        "STATE",
        "ORIGIN",
        "AGE",
        "FIRST",
        "TOKEN",
        "TOKENS",
        "TOKENS/S",
        "ATTEMPT",
        "WORKER",
    ]
    assert first.startswith(f"{young.pk[:10]}…  running")
    assert second.startswith(f"{old.pk[:10]}…  completed")
    for session in (old, young):
        assert session.pk not in first + second


def test_a_running_session_is_listed_with_its_tokens_so_far() -> None:
    session = claimed(open_session())
    say(session, text("A "), text("pl"))
    _, line = run("list").splitlines()
    columns = re.split(r"  +", line)
    assert columns[5] == "2"
    assert float(columns[6].replace(",", "")) > 0


def test_the_list_can_be_limited_by_state_and_number() -> None:
    for _ in range(3):
        open_session()
    completed()
    assert len(run("list", "--state", "queued").splitlines()) == 4
    assert len(run("list", "--state", "queued", "--state", "completed", "--limit", "2").splitlines()) == 3
    assert run("list", "--state", "failed") == "No sessions.\n"
    assert json.loads(run("list", "--state", "failed", "--json")) == []


def test_a_session_is_named_by_a_beginning_that_no_other_has() -> None:
    for session_id in ("kartu-1", "kartu-12"):
        open_session(session_id=session_id)
    assert json.loads(run("show", "--json", "kartu-1"))["id"] == "kartu-1"
    assert json.loads(run("show", "--json", "kartu-12"))["id"] == "kartu-12"
    with pytest.raises(CommandError, match="Several sessions begin with kartu: kartu-"):
        run("show", "kartu")
    for nobody in ("nobody", "…", ""):
        with pytest.raises(CommandError, match="There is no session"):
            run("show", nobody)
    made = completed()
    assert json.loads(run("show", "--json", f"{made.pk[:10]}…"))["id"] == made.pk


def test_facts_hold_nothing_of_question_and_answer() -> None:
    session = completed("A secret plate.", text=QUESTION)
    for shown in (run("show", session.pk), run("show", "--json", session.pk), run("list", "--json")):
        assert "kucilpandai" not in shown
        assert "secret" not in shown
    facts = json.loads(run("show", "--json", session.pk))
    assert (facts["state"], facts["completion_tokens"]) == ("completed", 3)
    assert facts["created_at"].endswith("Z")


def test_a_failed_session_says_why() -> None:
    assert "worker_lost: The worker was lost." in run("show", failed().pk)


def test_sessions_are_cancelled_wherever_they_are() -> None:
    waiting, running, done = open_session(), claimed(open_session()), completed()
    lines = run("cancel", waiting.pk, running.pk[:12], done.pk).splitlines()
    assert lines[0].endswith("is cancelled.")
    assert "at its worker's next commit" in lines[1]
    assert lines[2].endswith("has already ended: completed.")
    for session, state in ((waiting, "cancelled"), (running, "running"), (done, "completed")):
        session.refresh_from_db()
        assert session.state == state
    assert running.cancel_requested_at is not None
    assert "cancelling" in run("list")


def test_what_a_command_cancels_is_in_the_history() -> None:
    waiting = open_session()
    run("cancel", waiting.pk)
    assert HistoryFigure.objects.get(name="cancelled").value == 1


def test_of_several_to_cancel_none_is_when_one_is_not_there() -> None:
    waiting = open_session()
    with pytest.raises(CommandError):
        run("cancel", waiting.pk, "nobody")
    waiting.refresh_from_db()
    assert waiting.state == ChatSession.State.QUEUED


def test_tail_writes_the_text_and_on_the_other_stream_what_it_is() -> None:
    session = completed("A plate.")
    out, err = io.StringIO(), io.StringIO()
    call_command("sessions", "tail", session.pk[:10], stdout=out, stderr=err)
    assert out.getvalue() == "Let me look.A plate."
    assert "--- reasoning" in err.getvalue() and "--- text" in err.getvalue()
    assert "completed: stop, 3 tokens" in err.getvalue()


def test_tail_of_one_of_several_answers_is_that_answer() -> None:
    session = claimed(open_session())
    say(session, text("first"), {"type": "text", "text": "second", "choice": 1}, closing=Closing())
    assert run("tail", session.pk) == "first"
    assert run("tail", session.pk, "--answer", "1") == "second"


def test_text_of_a_model_moves_no_cursor() -> None:
    session = claimed(open_session())
    say(session, text("a\nb\x1b[2Jc\rd\x9b"), closing=Closing())
    assert run("tail", session.pk) == "a\nb\\x1b[2Jc\\rd\\x9b"


def test_tail_as_json_has_every_chunk_once() -> None:
    session = completed()
    lines = [json.loads(line) for line in run("tail", "--json", session.pk).splitlines()]
    assert [(line["index"], line.get("text", line["type"])) for line in lines] == log_of(session)


class Watching:
    """A tail in a thread of its own, and what it has printed."""

    def __init__(self, session: ChatSession) -> None:
        self.out = io.StringIO()
        self._thread = threading.Thread(target=self._run, args=(session.pk,))
        self._thread.start()

    def _run(self, session_id: str) -> None:
        try:
            call_command("sessions", "tail", session_id, stdout=self.out, stderr=io.StringIO())
        finally:
            connections.close_all()

    def wait_for(self, text: str) -> None:
        wait_for(lambda: self.out.getvalue() == text)

    def end(self) -> str:
        self._thread.join(DEADLINE_SECONDS)
        assert not self._thread.is_alive()
        return self.out.getvalue()


def test_tail_follows_what_is_committed_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "POLL_SECONDS", 0.01)
    session = claimed(open_session())
    watching = Watching(session)
    say(session, reasoning("Hm. "))
    watching.wait_for("Hm. ")
    say(session, text("A plate"))
    watching.wait_for("Hm. A plate")
    say(session, text("."), closing=Closing())
    assert watching.end() == "Hm. A plate."


def test_tail_waits_for_a_database_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tail, "RETRY_SECONDS", 0.01)
    after: Callable[..., object] = Chunk.objects.after
    failures = [OperationalError("away")] * 3

    def unsteady(*args: object) -> object:
        if failures:
            raise failures.pop()
        return after(*args)

    session = completed("A plate.")
    monkeypatch.setattr(Chunk.objects, "after", unsteady)
    assert run("tail", session.pk) == "Let me look.A plate."


def test_what_has_expired_is_said() -> None:
    session = completed()
    sweeper.expire(session.pk)
    with pytest.raises(CommandError, match="has expired"):
        run("tail", session.pk)
    assert "completed" in run("list")


def test_who_tails_is_no_listener_and_a_ctrl_c_leaves_the_session_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(seconds: float) -> None:
        raise KeyboardInterrupt

    session = claimed(open_session())
    say(session, text("A pl"))
    monkeypatch.setattr(tail, "time", SimpleNamespace(sleep=interrupted))
    err = io.StringIO()
    out = io.StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("sessions", "tail", session.pk, stdout=out, stderr=err)
    assert ended.value.code == 130
    assert out.getvalue() == "A pl"
    assert "the session continues" in err.getvalue()
    session.refresh_from_db()
    assert session.state == ChatSession.State.RUNNING
    assert session.cancel_requested_at is None
