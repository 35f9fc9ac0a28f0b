"""The one writer of a worker: it gathers the deltas of all running sessions and commits them together.

The first delta of a session goes at once, the next every ``CHUNK_COMMIT_SECONDS``. The same thread renews the leases
and sees the wish to cancel. When the database is away, deltas wait here and are committed when it is back, unless
another worker has taken the session over by then.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError

from inference.engine.types import Delta as EngineDelta
from inference.engine.types import Likelihood, TokenLogprobs
from inference.metrics import RunTimes, commit_failures, commit_time, fenced_appends
from sessions_app.db import release_connections
from sessions_app.log_lines import short_id
from sessions_app.models import Delta
from sessions_app.storable import WholeCharacters
from sessions_app.store import appending, transitions
from sessions_app.store.appending import Append, Closing, Piece

log = logging.getLogger(__name__)

#: how often a cancel is looked for while sessions run
CANCEL_POLL_SECONDS = 0.1
#: between tries while the database is away
RETRY_SECONDS = 0.5
#: a lease is renewed when this part of it is over
RENEW_FRACTION = 1 / 3
#: of a chunk's text: a reader of the live view gets none of more than a mebibyte
MOST_CHUNK_CHARS = 32_768
UNWRITABLE: dict[str, str | None] = {
    "message": "The answer could not be stored. The log of the worker has the details.",
    "type": "server_error",
    "param": None,
    "code": "generation_failed",
}


@dataclasses.dataclass(slots=True)
class _Tokens:
    ids: list[int] = dataclasses.field(default_factory=list)
    logprobs: list[dict[str, Any]] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(slots=True)
class _Answer:
    """What of a choice waits for its next piece."""

    #: those whose text is held back
    tokens: _Tokens = dataclasses.field(default_factory=_Tokens)
    characters: WholeCharacters = dataclasses.field(default_factory=WholeCharacters)


def _first_kind_in(delta: EngineDelta) -> str:
    return "reasoning" if delta.reasoning else "refusal" if delta.refusal else "text" if delta.text else ""


def _may_join(earlier: Delta, delta: Delta) -> bool:
    return earlier["type"] == delta["type"] and len(earlier["text"]) + len(delta["text"]) <= MOST_CHUNK_CHARS


def _joined(piece: Piece, delta: Delta, token_ids: Sequence[int]) -> Piece:
    both: Delta = {**piece.delta, "text": piece.delta["text"] + delta["text"]}
    if logprobs := [*piece.delta.get("logprobs", ()), *delta.get("logprobs", ())]:
        both["logprobs"] = logprobs
    return Piece(both, (*piece.token_ids, *token_ids))


def _stored(logprobs: TokenLogprobs) -> dict[str, Any]:
    return {**_likelihood(logprobs.chosen), "top": [_likelihood(likelihood) for likelihood in logprobs.top]}


def _likelihood(likelihood: Likelihood) -> dict[str, Any]:
    raw = likelihood.raw
    return {
        "token": likelihood.token,
        "bytes": None if raw is None else list(raw),
        "logprob": likelihood.logprob,
    }


class Run:
    """One session as this worker writes it. Called from the task's thread, the engine's and the writer's."""

    def __init__(
        self,
        writer: ChunkWriter,
        session_id: str,
        attempt: int,
        index: int,
        stop: Callable[[], None],
        times: RunTimes | None = None,
    ) -> None:
        self.session_id = session_id
        self.attempt = attempt
        #: set when the closing is committed, or the session is lost
        self.done = threading.Event()
        self.is_lost = False
        self.is_cancelled = False
        self._writer = writer
        self._stop = stop
        self._times = times
        self._index = index
        self._pieces: list[Piece] = []
        #: by choice
        self._answers: dict[int, _Answer] = {}
        self._closing: Closing | None = None
        self._has_started = False
        self._in_flight = False
        self._renew_at = time.monotonic() + settings.SESSION_LEASE_SECONDS * RENEW_FRACTION

    def add(self, delta: EngineDelta, choice: int = 0) -> None:
        """Take what the engine made; it is committed soon."""
        with self._writer.changed:
            if self._closing is not None:
                return  # the writer has ended it
            had_pending = self.has_pending
            if (answer := self._answers.get(choice)) is None:
                answer = self._answers[choice] = _Answer()
            if answer.characters.is_holding and (kind := _first_kind_in(delta)):
                # Half a character of another kind goes with its own tokens.
                self._add_pieces(answer.characters.turn_to(kind), choice)
            answer.tokens.ids += delta.token_ids
            answer.tokens.logprobs += map(_stored, delta.logprobs)
            for kind, text in (("reasoning", delta.reasoning), ("refusal", delta.refusal), ("text", delta.text)):
                if text:
                    self._add_pieces(answer.characters.add(kind, text), choice)
            # Of what comes later the writer need not be told: it is at a commit, or waits for the time of the next.
            if not had_pending and self.has_pending:
                self._writer.changed.notify_all()

    def close(self, closing: Closing) -> None:
        """End the session with its pending pieces, in one transaction; ``done`` tells when."""
        with self._writer.changed:
            if self._closing is not None:
                return
            for choice in sorted(self._answers):
                self._add_pieces(self._answers[choice].characters.end() or [("text", "")], choice)
            self._closing = closing
            self._writer.changed.notify()

    def _add_pieces(self, pieces: Sequence[tuple[str, str]], choice: int) -> None:
        for kind, text in pieces:
            if len(text) <= MOST_CHUNK_CHARS:
                self._add_piece(kind, text, choice)
                continue
            for start in range(0, len(text), MOST_CHUNK_CHARS):
                self._add_piece(kind, text[start : start + MOST_CHUNK_CHARS], choice)

    def _add_piece(self, kind: str, text: str, choice: int) -> None:
        answer = self._answers[choice]
        tokens, answer.tokens = answer.tokens, _Tokens()
        if not (text or tokens.ids):
            return
        delta: Delta = {"type": kind, "text": text}
        if choice:
            delta["choice"] = choice
        if tokens.logprobs:
            delta["logprobs"] = tokens.logprobs
        # The order of two choices means nothing: the last piece of this one may lie behind those of others.
        place = next((i for i, p in self._newest_first() if p.delta.get("choice", 0) == choice), None)
        if place is None or not _may_join(self._pieces[place].delta, delta):
            self._pieces.append(Piece(delta, tuple(tokens.ids)))
        else:
            self._pieces[place] = _joined(self._pieces[place], delta, tokens.ids)

    def _newest_first(self) -> Iterator[tuple[int, Piece]]:
        return zip(range(len(self._pieces) - 1, -1, -1), reversed(self._pieces), strict=True)

    # --- for the writer, with its lock held ---

    @property
    def has_pending(self) -> bool:
        if self.done.is_set():
            return False
        return bool(self._pieces) or self._closing is not None or self._in_flight

    @property
    def is_urgent(self) -> bool:
        return self.has_pending and (self._closing is not None or not self._has_started)

    def take(self, now: float) -> Append | None:
        """What to commit now, if anything."""
        if self.done.is_set() or (not self.has_pending and now < self._renew_at):
            return None
        pieces, self._pieces = self._pieces, []
        self._in_flight = True
        return Append(self.session_id, self.attempt, self._index, tuple(pieces), self._closing)

    def give_back(self, item: Append) -> None:
        """The commit failed: these pieces come first again."""
        self._pieces = [*item.pieces, *self._pieces]
        self._in_flight = False

    def committed(self, item: Append, now: float) -> None:
        self._in_flight = False
        self._index += len(item.pieces)
        self._has_started = self._has_started or bool(item.pieces)
        self._renew_at = now + settings.SESSION_LEASE_SECONDS * RENEW_FRACTION
        if self._times is not None:
            self._times.committed(item)
        if item.closing is not None:
            self.done.set()

    def refuse(self, item: Append) -> None:
        """The database will never take this: the session ends with an error, or is let go when that was the error."""
        self._in_flight = False
        if item.closing is not None and item.closing.error == UNWRITABLE:
            self.lose()
            return
        self._pieces = []
        self._answers = {}
        self._closing = Closing(error=UNWRITABLE)

    def lose(self) -> None:
        """Another worker owns the session now: nothing more is written."""
        self.is_lost = True
        self._in_flight = False
        self.done.set()

    # --- without it ---

    def stop(self) -> None:
        """Have the engine stop. It may wait in ``add`` for the writer's lock: whoever holds that lock must not call."""
        self._stop()

    def cancel(self) -> None:
        if not self.is_cancelled:
            self.is_cancelled = True
            self.stop()


class ChunkWriter(threading.Thread):
    """Owns the database connection that chunks are written on."""

    def __init__(self) -> None:
        super().__init__(name="chunk-writer", daemon=True)
        self.changed = threading.Condition()
        self._runs: dict[str, Run] = {}
        self._stopping = False
        self._cancel_poll_at = 0.0

    @property
    def running(self) -> int:
        return len(self._runs)

    def open(
        self, session_id: str, attempt: int, index: int, stop: Callable[[], None], times: RunTimes | None = None
    ) -> Run:
        """Begin to write the session from ``index``; ``stop`` is called when it should end early, from any thread.

        ``times`` is told of each commit.
        """
        run = Run(self, session_id, attempt, index, stop, times)
        with self.changed:
            before = self._runs.get(session_id)
            if before is not None:
                # This worker was silent for too long, and has claimed its own session anew.
                before.lose()
            self._runs[session_id] = run
            self.changed.notify_all()
        if before is not None:
            before.stop()
        return run

    def forget(self, run: Run) -> None:
        with self.changed:
            if self._runs.get(run.session_id) is run:
                del self._runs[run.session_id]

    def flush(self, run: Run, timeout_seconds: float) -> bool:
        """Wait until everything that was added is committed; False when the session is lost or time is up."""
        deadline = time.monotonic() + timeout_seconds
        with self.changed:
            while run.has_pending and not run.is_lost:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                self.changed.wait(min(remaining, 0.05))
        return not run.is_lost

    def stop(self, timeout_seconds: float) -> None:
        """Commit what is pending and end. Runs must have ended before."""
        with self.changed:
            self._stopping = True
            self.changed.notify_all()
        self.join(timeout_seconds)

    def run(self) -> None:
        last_commit = 0.0
        try:
            while True:
                with self.changed:
                    stopping = self._wait_for_work(last_commit)
                    now = time.monotonic()
                    work = [(run, item) for run in self._runs.values() if (item := run.take(now)) is not None]
                if work:
                    self._commit(work)
                    last_commit = time.monotonic()
                elif stopping:
                    return
                self._look_for_cancels()
        finally:
            release_connections()

    def _wait_for_work(self, last_commit: float) -> bool:
        """Until something is to be committed or looked at; the lock is held. True when the writer should end."""
        while not self._stopping:
            runs = self._runs.values()
            if any(run.is_urgent for run in runs):
                break
            pending = any(run.has_pending for run in runs)
            due = last_commit + settings.CHUNK_COMMIT_SECONDS if pending else self._cancel_poll_at
            remaining = due - time.monotonic() if self._runs else None
            if remaining is not None and remaining <= 0:
                break
            # With nothing to run it sleeps, but not for ever: every wait has an end.
            self.changed.wait(remaining if remaining is not None else 5.0)
        return self._stopping

    def _commit(self, work: Sequence[tuple[Run, Append]]) -> None:
        try:
            with commit_time.time():
                lost = appending.append(item for _, item in work)
        except (OperationalError, InterfaceError) as exc:
            log.warning("%d sessions could not be committed and wait: %s", len(work), exc)
            commit_failures.inc()
            with self.changed:
                for run, item in work:
                    run.give_back(item)
            release_connections()
            time.sleep(RETRY_SECONDS)
            return
        except Exception as exc:
            release_connections()
            self._commit_apart(work, exc)
            return
        now = time.monotonic()
        fenced_appends.inc(len(lost))
        with self.changed:
            for run, item in work:
                if item.session_id in lost:
                    about = {"session": item.session_id, "attempt": item.attempt}
                    log.warning(
                        "session %s: attempt %d has lost it", short_id(item.session_id), item.attempt, extra=about
                    )
                    run.lose()
                else:
                    run.committed(item, now)
            self.changed.notify_all()
        for run, item in work:
            if item.session_id in lost:
                run.stop()

    def _commit_apart(self, work: Sequence[tuple[Run, Append]], exc: Exception) -> None:
        """Something in the commit cannot be written, however often it is tried: no other session waits for it."""
        if len(work) > 1:
            for one in work:
                self._commit([one])
            return
        [(run, item)] = work
        about = {"session": run.session_id, "attempt": run.attempt}
        log.error("session %s: what it says cannot be written", short_id(run.session_id), exc_info=exc, extra=about)
        with self.changed:
            run.refuse(item)
            self.changed.notify_all()
        run.stop()

    def _look_for_cancels(self) -> None:
        now = time.monotonic()
        if now < self._cancel_poll_at:
            return
        self._cancel_poll_at = now + CANCEL_POLL_SECONDS
        with self.changed:
            runs = dict(self._runs)
        if not runs:
            return
        try:
            wanted = transitions.cancel_requested_among(runs)
        except DatabaseError as exc:
            log.warning("cancels could not be read: %s", exc)
            release_connections()
            return
        for session_id in wanted:
            runs[session_id].cancel()
