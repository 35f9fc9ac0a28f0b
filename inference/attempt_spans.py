"""The spans of one attempt at a session: time in the queue, prefill, decode with its commits, and the whole."""

from __future__ import annotations

from sessions_app import tracing
from sessions_app.models import ChatSession
from sessions_app.store.appending import Append, span_attributes

#: maximum commits of a span; SDKs keep this many events of a span by default
MAX_COMMITS = 128


class AttemptSpans:
    """Created at the claim, and notified of each commit. Does nothing for a session that is not traced.

    Times are in seconds since 1970. They are commit times: prefill ends when the first token is committed.
    """

    def __init__(self, session: ChatSession, *, now: float) -> None:
        self._is_traced = tracing.is_traced(session.pk)
        if not self._is_traced:
            return
        self._session = session
        self._claimed_at = now
        self._first_token_at: float | None = None
        self._commits: list[tuple[float, dict[str, int]]] = []
        self._tokens = 0
        self._about: dict[str, str | int] = {"worker": session.worker, "attempt": session.attempt}
        if session.attempt == 1:
            tracing.record(session.pk, "queue", start=session.created_at.timestamp(), end=now)

    def committed(self, item: Append, *, now: float) -> None:
        """Called after each commit of the session. Fast, because a separate thread sends the spans."""
        if not self._is_traced:
            return
        if tokens := sum(len(piece.token_ids) for piece in item.pieces):
            if self._first_token_at is None:
                self._first_token_at = now
                tracing.record(self._session.pk, "prefill", start=self._claimed_at, end=now, attributes=self._about)
            self._tokens += tokens
            if len(self._commits) < MAX_COMMITS:
                self._commits.append((now, {"index": item.index, "chunks": len(item.pieces), "tokens": tokens}))
        if item.closing is not None:
            self.ended(now=now, outcome=item.closing.state)
            tracing.record_session(
                self._session.pk,
                start=self._session.created_at.timestamp(),
                end=now,
                attributes=span_attributes(self._session, item.closing),
            )

    def ended(self, *, now: float, outcome: str) -> None:
        """The attempt is over: closed, released to another worker, fenced, or lost with its engine."""
        if not self._is_traced:
            return
        self._is_traced = False
        start = self._claimed_at if self._first_token_at is None else self._first_token_at
        name = "prefill" if self._first_token_at is None else "decode"
        about = {**self._about, "outcome": outcome, "tokens": self._tokens}
        tracing.record(self._session.pk, name, start=start, end=now, attributes=about, events=self._commits)
