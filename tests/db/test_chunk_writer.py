"""The chunk writer of a worker: what the engine makes is committed soon, whole, once, and in order."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pytest
from django.conf import settings
from django.db import DataError, InterfaceError, OperationalError

from inference.engine.handle import Handle
from inference.engine.types import Delta, Likelihood, TokenLogprobs
from inference.worker import chunk_writer
from inference.worker.attempt import Attempt
from inference.worker.chunk_writer import ChunkWriter
from inference.worker.pieces import MAX_CHUNK_CHARS
from sessions_app.models import ChatSession, Chunk
from sessions_app.store import appending, transitions
from sessions_app.store.appending import Append, Closing
from tests.content import text_of as text_in
from tests.db.session_states import claimed, open_session
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

State = ChatSession.State
DEADLINE_SECONDS = 20.0
NEVER = 1000.0


class Worker:
    """A writer with its sessions, and the ids of those whose generation it has stopped."""

    def __init__(self) -> None:
        self.writer = ChunkWriter()
        self.stopped: list[str] = []

    def begin(self, session_id: str | None = None) -> Attempt:
        session = claimed(open_session(session_id=session_id))
        return self.go_on(session)

    def go_on(self, session: ChatSession) -> Attempt:
        attempt = self.writer.open(session.pk, session.attempt, session.next_index)
        attempt.generates([Handle(lambda _: self.stopped.append(session.pk))])
        return attempt


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    monkeypatch.setattr(chunk_writer, "RETRY_SECONDS", 0.01)
    worker = Worker()
    worker.writer.start()
    yield worker
    for attempt in list(worker.writer._attempts.values()):
        worker.writer.forget(attempt)
    worker.writer.stop(DEADLINE_SECONDS)
    assert not worker.writer.is_alive()


class Database:
    """``appending.append``, which fails on demand and remembers what was committed."""

    def __init__(self, append: Callable[[Iterable[Append]], set[str]]) -> None:
        self._append = append
        self.failures: list[Exception] = []
        self.fails: Callable[[Sequence[Append]], Exception | None] = lambda items: None
        self.commits: list[list[Append]] = []
        self.tries = 0
        self.may_commit = threading.Event()
        self.may_commit.set()

    def append(self, items: Iterable[Append]) -> set[str]:
        group = list(items)
        assert self.may_commit.wait(DEADLINE_SECONDS)
        self.tries += 1
        if self.failures:
            raise self.failures.pop(0)
        if failure := self.fails(group):
            raise failure
        lost = self._append(group)
        self.commits.append(group)
        return lost


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    database = Database(appending.append)
    monkeypatch.setattr(appending, "append", database.append)
    return database


def say(attempt: Attempt, *texts: str) -> None:
    for text in texts:
        attempt.add(Delta(tuple(ord(character) for character in text), text=text))


def log_of(attempt: Attempt) -> list[tuple[str, str, list[int]]]:
    """Kind, text and token ids of the chunks after the first."""
    rows = Chunk.objects.after(attempt.session_id, 0).values_list("delta", "token_ids")
    return [(delta["type"], delta.get("text", ""), ids) for delta, ids in rows]


def text_of(attempt: Attempt) -> str:
    return "".join(text for kind, text, _ in log_of(attempt) if kind == "text")


def finish(attempt: Attempt, closing: Closing | None = None) -> ChatSession:
    attempt.close(closing or Closing())
    assert attempt.done.wait(DEADLINE_SECONDS)
    session = ChatSession.objects.get(pk=attempt.session_id)
    indexes = list(Chunk.objects.after(attempt.session_id, -1).values_list("index", flat=True))
    assert indexes == list(range(session.next_index))
    return session


# --- When ---


def test_the_first_delta_goes_at_once_however_long_the_interval(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = worker.begin()
    say(other, "x")
    wait_for(lambda: log_of(other))
    monkeypatch.setattr(settings, "CHUNK_COMMIT_SECONDS", NEVER)
    attempt = worker.begin()
    say(attempt, "H")
    wait_for(lambda: log_of(attempt) == [("text", "H", [72])])


def test_later_deltas_wait_and_are_committed_as_one(worker: Worker, database: Database) -> None:
    attempt = worker.begin()
    say(attempt, "H")
    wait_for(lambda: log_of(attempt))
    database.may_commit.clear()
    say(attempt, *"alo, apa kabar?")
    database.may_commit.set()
    finish(attempt)
    assert text_of(attempt) == "Halo, apa kabar?"
    assert Chunk.objects.token_ids_of(attempt.session_id) == [ord(character) for character in "Halo, apa kabar?"]
    assert len(log_of(attempt)) < len("Halo, apa kabar?")


def test_the_end_goes_at_once_with_what_waits_in_one_commit(
    worker: Worker, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempt = worker.begin()
    say(attempt, "a")
    wait_for(lambda: log_of(attempt))
    monkeypatch.setattr(settings, "CHUNK_COMMIT_SECONDS", NEVER)
    say(attempt, "b", "c")
    assert finish(attempt).state == State.COMPLETED
    [last] = database.commits[-1]
    assert [text_in(piece) for piece in last.pieces] == ["bc"]
    assert last.closing is not None


def test_running_sessions_share_their_commits(worker: Worker, database: Database) -> None:
    database.may_commit.clear()
    attempts = [worker.begin(f"s{n}") for n in range(5)]
    # What the writer has already taken waits at the gate. The rest is committed together after it.
    for attempt in attempts:
        say(attempt, "a")
    database.may_commit.set()
    for attempt in attempts:
        wait_for(lambda: log_of(attempt))  # noqa: B023
    assert len(database.commits) <= 2


# --- What ---


def test_reasoning_and_text_are_chunks_of_their_own(worker: Worker) -> None:
    attempt = worker.begin()
    attempt.add(Delta((1,), reasoning="hm"))
    attempt.add(Delta((2,), reasoning="m", text="Ya"))
    attempt.add(Delta((3,), text="!"))
    finish(attempt)
    said = log_of(attempt)
    assert "".join(text for kind, text, _ in said if kind == "reasoning") == "hmm"
    assert "".join(text for kind, text, _ in said if kind == "text") == "Ya!"
    kinds = [kind for kind, _, _ in said]
    assert kinds == [*sorted(kinds[:-3]), "finish", "usage", "end"]
    assert Chunk.objects.token_ids_of(attempt.session_id) == [1, 2, 3]


def told(token: str, *others: str) -> TokenLogprobs:
    def likelihood(text: str) -> Likelihood:
        return Likelihood(ord(text), text, text.encode(), -0.5)

    return TokenLogprobs(likelihood(token), tuple(likelihood(other) for other in others))


def test_logprobs_go_with_the_tokens_that_a_chunks_text_is_made_of(worker: Worker, database: Database) -> None:
    attempt = worker.begin()
    database.may_commit.clear()
    attempt.add(Delta((72,), reasoning="H", logprobs=(told("H"),)))
    attempt.add(Delta((97,), logprobs=(told("a", "b"),)))
    attempt.add(Delta((108,), text="al", logprobs=(told("l"),)))
    attempt.add(Delta((111,), text="o", logprobs=(told("o"),)))
    attempt.add(Delta((0,), logprobs=(TokenLogprobs(Likelihood(0, "<end>", None, -1.0)),)))
    database.may_commit.set()
    finish(attempt)
    rows = list(Chunk.objects.after(attempt.session_id, 0).values_list("delta", "token_ids"))
    for delta, token_ids in rows[:-3]:
        assert len(delta["logprobs"]) == len(token_ids)
    every = [entry for delta, _ in rows for entry in delta.get("logprobs", ())]
    assert [entry["token"] for entry in every] == ["H", "a", "l", "o", "<end>"]
    assert every[1] == {
        "token": "a",
        "bytes": [97],
        "logprob": -0.5,
        "top": [{"token": "b", "bytes": [98], "logprob": -0.5}],
    }
    assert every[-1] == {"token": "<end>", "bytes": None, "logprob": -1.0, "top": []}
    assert "".join(delta["text"] for delta, _ in rows if delta["type"] == "text") == "alo"


def test_without_logprobs_a_chunk_says_nothing_of_them(worker: Worker) -> None:
    attempt = worker.begin()
    say(attempt, "a")
    finish(attempt)
    assert Chunk.objects.get(session_id=attempt.session_id, index=1).delta == {"type": "text", "text": "a"}


def test_choices_share_a_session_and_keep_their_texts_and_tokens_apart(worker: Worker, database: Database) -> None:
    attempt = worker.begin()
    say(attempt, "x")
    wait_for(lambda: log_of(attempt))
    database.may_commit.clear()
    for number in range(6):
        for choice in range(3):
            attempt.add(Delta((10 * choice + number,), text=str(choice)), choice)
    attempt.add(Delta((99,)), 2)
    database.may_commit.set()
    reasons = ("stop", "length", "stop")
    finish(attempt, Closing(reason="length", reasons=reasons, prompt_tokens=4, completion_tokens=20))
    rows = list(Chunk.objects.after(attempt.session_id, 0).values_list("delta", flat=True))
    for choice in range(3):
        said = [d["text"] for d in rows if d["type"] == "text" and d.get("choice", 0) == choice]
        assert "".join(said) == ("x" if choice == 0 else "") + 6 * str(choice)
        # What waits together is one chunk of each choice, however the choices take turns.
        assert len(said) <= 4
    assert Chunk.objects.token_ids_by_choice(attempt.session_id) == {
        0: [120, 0, 1, 2, 3, 4, 5],
        1: [10, 11, 12, 13, 14, 15],
        2: [20, 21, 22, 23, 24, 25, 99],
    }
    assert rows[-5:-2] == [{"type": "finish", "choice": n, "reason": reason} for n, reason in enumerate(reasons)]
    assert [d["type"] for d in rows[-2:]] == ["usage", "end"]


def test_tokens_without_text_wait_for_the_text_that_they_are_part_of(worker: Worker) -> None:
    attempt = worker.begin()
    say(attempt, "a")
    assert worker.writer.flush(attempt, DEADLINE_SECONDS)
    attempt.add(Delta((240,)))
    attempt.add(Delta((159, 145)))
    assert not attempt.has_pending
    attempt.add(Delta((139,), text="👋"))
    finish(attempt)
    assert log_of(attempt)[:2] == [("text", "a", [97]), ("text", "👋", [240, 159, 145, 139])]


def test_tokens_without_text_are_not_forgotten_at_the_end(worker: Worker) -> None:
    attempt = worker.begin()
    attempt.add(Delta((5, 6)))
    finish(attempt)
    assert log_of(attempt)[0] == ("text", "", [5, 6])
    assert Chunk.objects.token_ids_of(attempt.session_id) == [5, 6]


# --- What cannot be stored as it is ---

HALVES = "\ud83d", "\ude00"


def delta_of(token_ids: tuple[int, ...], kind: str, text: str) -> Delta:
    texts: dict[str, Any] = {kind: text}
    return Delta(token_ids, **texts)


@pytest.mark.parametrize("kind", ["text", "reasoning", "refusal"])
def test_a_character_that_is_cut_between_two_deltas_is_stored_whole_with_the_tokens_of_both(
    worker: Worker, kind: str
) -> None:
    attempt = worker.begin()
    say(attempt, "x")
    assert worker.writer.flush(attempt, DEADLINE_SECONDS)
    attempt.add(delta_of((1, 2), kind, "a" + HALVES[0]))
    attempt.add(Delta((3,)))
    assert not attempt.has_pending
    attempt.add(delta_of((4,), kind, HALVES[1] + "b"))
    finish(attempt)
    assert log_of(attempt)[1] == (kind, "a😀b", [1, 2, 3, 4])


def test_each_choice_has_its_own_halves(worker: Worker) -> None:
    attempt = worker.begin()
    for half in HALVES:
        for choice in range(3):
            attempt.add(Delta((choice,), text=half), choice)
    finish(attempt, Closing(reasons=("stop",) * 3))
    rows = Chunk.objects.after(attempt.session_id, 0).values_list("delta", flat=True)
    assert [(d.get("choice", 0), d["text"]) for d in rows if d["type"] == "text"] == [(0, "😀"), (1, "😀"), (2, "😀")]


@pytest.mark.parametrize("closing", [Closing(), Closing(reason="cancelled"), Closing(error={"message": "m"})])
def test_a_half_that_nothing_follows_is_the_replacement_character(worker: Worker, closing: Closing) -> None:
    attempt = worker.begin()
    attempt.add(Delta((1,), reasoning="a" + HALVES[0]))
    attempt.add(Delta((2,), text=HALVES[1] + HALVES[0]))
    finish(attempt, closing)
    assert log_of(attempt)[:2] == [("reasoning", "a\ufffd", [1]), ("text", "\ufffd\ufffd", [2])]


def test_a_session_that_is_released_in_the_middle_of_a_character_goes_on_with_it(worker: Worker) -> None:
    """An engine gives the same deltas again from the first token that is not committed."""
    deltas = [(1, "a"), (2, "b" + HALVES[0]), (3, HALVES[1] + "c"), (4, HALVES[0]), (5, HALVES[1])]
    for committed_deltas in range(len(deltas) + 1):
        attempt = worker.begin(f"s{committed_deltas}")
        for token, said in deltas[:committed_deltas]:
            attempt.add(Delta((token,), text=said))
        assert worker.writer.flush(attempt, DEADLINE_SECONDS)
        worker.writer.forget(attempt)
        assert transitions.release(attempt.session_id, attempt.number)
        successor = worker.go_on(claimed(ChatSession.objects.get(pk=attempt.session_id)))
        committed = Chunk.objects.token_ids_of(attempt.session_id)
        for token, said in deltas[len(committed) :]:
            successor.add(Delta((token,), text=said))
        finish(successor)
        assert text_of(successor) == "ab😀c😀"
        assert Chunk.objects.token_ids_of(attempt.session_id) == [1, 2, 3, 4, 5]


def test_what_a_column_or_json_cannot_hold_is_stored_as_what_it_can(worker: Worker) -> None:
    attempt = worker.begin()
    odd = Likelihood(1, "\ud83d\0", b"\0\xff", float("-inf"))
    fine = Likelihood(1, "é", None, -0.5)
    attempt.add(Delta((2**40, -5, 7), text="\0é\0", logprobs=(TokenLogprobs(odd, (odd, fine)),)))
    error = {"message": "m\0\ud83d" + "x" * 10_000, "type": "server_error", "param": None, "code": "c"}
    session = finish(attempt, Closing(error=error, prompt_tokens=2**40, completion_tokens=2**31 - 1))
    [said, end] = Chunk.objects.after(attempt.session_id, 0)
    assert (said.delta["text"], said.token_ids) == ("\ufffdé\ufffd", [-1, -1, 7])
    worst = {"token": "\ufffd\ufffd", "bytes": [0, 255], "logprob": -9999.0}
    assert said.delta["logprobs"] == [
        worst | {"top": [worst, {"token": "é", "bytes": None, "logprob": -0.5}]},
    ]
    assert session.error == end.delta["error"]
    assert session.error is not None
    assert session.error["message"].startswith("m\ufffd\ufffdx")
    assert len(session.error["message"]) < 3000
    assert (session.prompt_tokens, session.completion_tokens) == (2**31 - 1, 2**31 - 1)


def test_a_long_text_is_stored_in_pieces_that_every_reader_takes(worker: Worker, database: Database) -> None:
    attempt = worker.begin()
    database.may_commit.clear()
    said = "añ😀" * 30_000
    attempt.add(Delta((1, 2), text=said))
    attempt.add(Delta((3,), text="!"))
    database.may_commit.set()
    finish(attempt)
    assert text_of(attempt) == said + "!"
    assert Chunk.objects.token_ids_of(attempt.session_id) == [1, 2, 3]
    assert max(len(text) for _, text, _ in log_of(attempt)) <= MAX_CHUNK_CHARS


def test_what_is_no_json_at_all_costs_its_own_session_only(worker: Worker, database: Database) -> None:
    good, poison = worker.begin("a"), worker.begin("b")
    database.may_commit.clear()
    say(good, "good")
    broken = Likelihood(1, object(), None, -0.5)  # type: ignore[arg-type]
    poison.add(Delta((1,), text="a", logprobs=(TokenLogprobs(broken),)))
    database.may_commit.set()
    assert poison.done.wait(DEADLINE_SECONDS)
    assert ChatSession.objects.get(pk="b").state == State.FAILED
    assert finish(good).state == State.COMPLETED
    assert text_of(good) == "good"


@pytest.mark.parametrize(
    ("closing", "state"),
    [
        (Closing(reason="length"), State.COMPLETED),
        (Closing(reason="cancelled"), State.CANCELLED),
        (Closing(error={"message": "m", "type": "server_error", "param": None, "code": "c"}), State.FAILED),
    ],
)
def test_a_session_ends_as_it_is_closed(worker: Worker, closing: Closing, state: str) -> None:
    attempt = worker.begin()
    say(attempt, "a")
    assert finish(attempt, closing).state == state
    assert not attempt.is_fenced
    assert worker.stopped == []


def test_a_session_may_end_without_a_word(worker: Worker) -> None:
    attempt = worker.begin()
    assert finish(attempt).state == State.COMPLETED
    assert [kind for kind, _, _ in log_of(attempt)] == ["finish", "usage", "end"]


def test_a_session_taken_over_goes_on_at_its_index(worker: Worker) -> None:
    attempt = worker.begin("a")
    say(attempt, "satu ")
    assert worker.writer.flush(attempt, DEADLINE_SECONDS)
    worker.writer.forget(attempt)
    assert transitions.release("a", attempt.number)
    successor = worker.go_on(claimed(ChatSession.objects.get(pk="a")))
    say(successor, "dua")
    assert finish(successor).state == State.COMPLETED
    assert text_of(successor) == "satu dua"


# --- Leases, losses and cancels ---


def test_leases_are_renewed_while_the_engine_makes_nothing(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "SESSION_LEASE_SECONDS", 0.3)
    attempt = worker.begin()

    def lease() -> object:
        return ChatSession.objects.values_list("lease_expires_at", flat=True).get(pk=attempt.session_id)

    first = lease()
    wait_for(lambda: lease() != first)
    second = lease()
    wait_for(lambda: lease() != second)
    assert log_of(attempt) == []


@pytest.mark.parametrize("end", ["cancel", "fence"])
def test_what_is_generated_after_a_cancel_or_a_fence_is_stopped_at_once(worker: Worker, end: str) -> None:
    session = claimed(open_session())
    attempt = worker.writer.open(session.pk, session.attempt, session.next_index)
    getattr(attempt, end)()
    generation = Handle(lambda _: None)
    attempt.generates([generation])
    assert generation.closed


def test_a_fenced_session_stops_its_engine_and_nothing_more_is_written(worker: Worker) -> None:
    attempt, other = worker.begin(), worker.begin()
    say(attempt, "a")
    wait_for(lambda: log_of(attempt))
    ChatSession.objects.filter(pk=attempt.session_id).update(attempt=9)
    say(attempt, "b")
    say(other, "x")
    assert attempt.done.wait(DEADLINE_SECONDS)
    assert attempt.is_fenced
    assert worker.stopped == [attempt.session_id]
    say(attempt, "c")
    attempt.close(Closing())
    assert finish(other).state == State.COMPLETED
    assert text_of(attempt) == "a"
    assert not worker.writer.flush(attempt, DEADLINE_SECONDS)


def test_a_cancel_is_seen_while_the_engine_makes_nothing(worker: Worker) -> None:
    attempt, other = worker.begin(), worker.begin()
    transitions.request_cancel(attempt.session_id)
    wait_for(lambda: worker.stopped == [attempt.session_id])
    assert attempt.is_cancelled
    assert not other.is_cancelled
    say(attempt, "a")
    assert finish(attempt, Closing(reason="cancelled")).state == State.CANCELLED
    assert worker.stopped == [attempt.session_id]


def test_flush_waits_until_all_is_committed(worker: Worker) -> None:
    attempt = worker.begin()
    say(attempt, *"halo")
    assert worker.writer.flush(attempt, DEADLINE_SECONDS)
    assert text_of(attempt) == "halo"


def test_flush_gives_up_in_time(worker: Worker, database: Database) -> None:
    attempt = worker.begin()
    database.may_commit.clear()
    say(attempt, "a")
    assert not worker.writer.flush(attempt, 0.05)
    database.may_commit.set()
    assert worker.writer.flush(attempt, DEADLINE_SECONDS)


def test_stopping_commits_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker()
    worker.writer.start()
    attempt = worker.begin()
    say(attempt, "a")
    wait_for(lambda: log_of(attempt))
    monkeypatch.setattr(settings, "CHUNK_COMMIT_SECONDS", NEVER)
    say(attempt, "b")
    worker.writer.stop(DEADLINE_SECONDS)
    assert not worker.writer.is_alive()
    assert text_of(attempt) == "ab"


def test_a_writer_with_nothing_to_do_stops() -> None:
    writer = ChunkWriter()
    writer.start()
    writer.stop(DEADLINE_SECONDS)
    assert not writer.is_alive()


# --- When the database is away, or will not have it ---


@pytest.mark.parametrize("failure", [OperationalError("away"), InterfaceError("connection already closed")])
def test_while_the_database_is_away_nothing_is_lost_or_doubled(
    worker: Worker, database: Database, failure: Exception
) -> None:
    attempts = [worker.begin(f"s{n}") for n in range(3)]
    for round_ in range(6):
        database.failures += [failure] * (round_ % 3)
        for attempt in attempts:
            say(attempt, *f"{round_} {attempt.session_id} ")
        wait_for(lambda: not database.failures)
    database.failures += [failure] * 2
    for attempt in attempts:
        assert finish(attempt, Closing(completion_tokens=1)).state == State.COMPLETED
        said = "".join(f"{round_} {attempt.session_id} " for round_ in range(6))
        assert text_of(attempt) == said
        assert Chunk.objects.token_ids_of(attempt.session_id) == [ord(character) for character in said]
    assert worker.stopped == []


def test_a_commit_whose_answer_was_lost_is_not_written_twice(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection broke after the commit. The writer cannot know that, but the expected index tells."""
    append = appending.append
    answers = iter([OperationalError("server closed the connection")])

    def silent(items: Iterable[Append]) -> set[str]:
        lost = append(items)
        if failure := next(answers, None):
            raise failure
        return lost

    attempt = worker.begin()
    monkeypatch.setattr(appending, "append", silent)
    say(attempt, "a")
    assert attempt.done.wait(DEADLINE_SECONDS)
    assert attempt.is_fenced
    assert worker.stopped == [attempt.session_id]
    assert log_of(attempt) == [("text", "a", [97])]


def test_one_session_that_cannot_be_written_fails_alone(
    worker: Worker, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(group: Sequence[Append]) -> Exception | None:
        bad = any("bad" in text_in(piece) for item in group for piece in item.pieces)
        return DataError("unsupported Unicode escape sequence") if bad else None

    good, poison, silent = (worker.begin(name) for name in ("a", "b", "c"))
    database.fails = fails
    database.may_commit.clear()
    for attempt, text in ((good, "good"), (poison, "bad")):
        say(attempt, text)
    database.may_commit.set()
    assert poison.done.wait(DEADLINE_SECONDS)
    assert worker.stopped == ["b"]
    # Whatever its engine and its task do then, the session has ended.
    say(poison, "more")
    poison.close(Closing(reason="cancelled"))
    failed = ChatSession.objects.get(pk="b")
    assert failed.state == State.FAILED
    assert failed.error is not None
    assert "escape" not in failed.error["message"]
    assert "unsupported Unicode" in caplog.text
    assert [kind for kind, _, _ in log_of(poison)] == ["error"]
    for attempt in (good, silent):
        assert finish(attempt).state == State.COMPLETED
    assert text_of(good) == "good"


def test_a_session_whose_end_cannot_be_written_either_is_let_go(worker: Worker, database: Database) -> None:
    database.fails = lambda group: TypeError("odd") if any(item.session_id == "b" for item in group) else None
    attempt, other = worker.begin("b"), worker.begin("a")
    say(attempt, "x")
    assert attempt.done.wait(DEADLINE_SECONDS)
    assert attempt.is_fenced
    assert ChatSession.objects.get(pk="b").state == State.RUNNING  # until its lease expires
    assert finish(other).state == State.COMPLETED


def test_a_session_that_the_same_worker_claims_anew_has_one_run_and_the_old_one_ends(worker: Worker) -> None:
    old = worker.begin("again")
    session = ChatSession.objects.get(pk="again")
    assert transitions.release("again", session.attempt)
    new = worker.go_on(claimed(session))
    assert old.done.wait(DEADLINE_SECONDS)
    assert old.is_fenced
    assert worker.stopped == ["again"]
    say(new, "goes on")
    assert finish(new).state == State.COMPLETED
    assert text_of(new) == "goes on"
