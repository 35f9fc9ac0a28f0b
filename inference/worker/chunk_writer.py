"""The one writer of a worker: it gathers the pieces of all running sessions and commits them together.

The first piece of a session is committed at once, the next every ``CHUNK_COMMIT_SECONDS``. The same thread renews the
leases and polls for cancel requests. While the database is unavailable, pieces wait here. They are committed when it is
available again, unless another worker has taken the session over by then.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from django.conf import settings
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError

from inference.metrics import AttemptTimes, commit_failures, commit_time, fenced_appends
from inference.worker.attempt import Attempt
from sessions_app.db import release_connections
from sessions_app.log_lines import short_id
from sessions_app.store import appending, transitions
from sessions_app.store.appending import Append

log = logging.getLogger(__name__)

#: interval of polling for cancel requests while sessions run
CANCEL_POLL_SECONDS = 0.1
#: pause between two attempts to commit while the database is unavailable
RETRY_SECONDS = 0.5
#: maximum sleep without sessions, so that no wait is unbounded
IDLE_SECONDS = 5.0


class ChunkWriter(threading.Thread):
    """Owns the database connection that chunks are written on."""

    def __init__(self) -> None:
        super().__init__(name="chunk-writer", daemon=True)
        #: the lock of all attempts; notified when there is something to commit, and after each commit
        self.changed = threading.Condition()
        self._attempts: dict[str, Attempt] = {}
        self._stopping = False
        self._cancel_poll_at = 0.0

    @property
    def running(self) -> int:
        return len(self._attempts)

    def open(
        self,
        session_id: str,
        number: int,
        index: int,
        times: AttemptTimes | None = None,
        *,
        is_sealed: bool = False,
    ) -> Attempt:
        """Begin to write the session from ``index``. The arguments are those of ``Attempt``."""
        attempt = Attempt(self.changed, session_id, number, index, times, is_sealed=is_sealed)
        with self.changed:
            before = self._attempts.get(session_id)
            if before is not None:
                # This worker lost the lease and then claimed the same session again: stop the old attempt.
                before.fence()
            self._attempts[session_id] = attempt
            self.changed.notify_all()
        if before is not None:
            before.stop()
        return attempt

    def forget(self, attempt: Attempt) -> None:
        with self.changed:
            if self._attempts.get(attempt.session_id) is attempt:
                del self._attempts[attempt.session_id]

    def flush(self, attempt: Attempt, timeout_seconds: float) -> bool:
        """Wait until everything that was added is committed; False when the attempt is fenced or time is up."""
        deadline = time.monotonic() + timeout_seconds
        with self.changed:
            while attempt.has_pending and not attempt.is_fenced:
                remaining = deadline - time.monotonic()
                if remaining <= 0:
                    return False
                self.changed.wait(min(remaining, 0.05))
        return not attempt.is_fenced

    def stop(self, timeout_seconds: float) -> None:
        """Commit what is pending and end. All attempts must have ended before."""
        with self.changed:
            self._stopping = True
            self.changed.notify_all()
        self.join(timeout_seconds)

    def run(self) -> None:
        try:
            self._write_until_stopped()
        except Exception:
            # A bug in this code, not a database error. ``SideThreads`` sees that this thread has ended.
            log.exception("the chunk writer failed")
        finally:
            release_connections()

    def _write_until_stopped(self) -> None:
        last_commit = 0.0
        while True:
            with self.changed:
                stopping = self._wait_for_work(last_commit)
                now = time.monotonic()
                work = [
                    (attempt, item) for attempt in self._attempts.values() if (item := attempt.take(now)) is not None
                ]
            if work:
                self._commit(work)
                last_commit = time.monotonic()
            elif stopping:
                return
            self._poll_cancels()

    def _wait_for_work(self, last_commit: float) -> bool:
        """Wait until a commit or a poll for cancel requests is due. Returns whether the writer should end.

        The lock is held.
        """
        while not self._stopping:
            attempts = self._attempts.values()
            if any(attempt.is_urgent for attempt in attempts):
                break
            pending = any(attempt.has_pending for attempt in attempts)
            due = last_commit + settings.CHUNK_COMMIT_SECONDS if pending else self._cancel_poll_at
            remaining = due - time.monotonic() if self._attempts else IDLE_SECONDS
            if remaining <= 0:
                break
            self.changed.wait(remaining)
        return self._stopping

    def _commit(self, work: Sequence[tuple[Attempt, Append]]) -> None:
        try:
            with commit_time.time():
                fenced = appending.append(item for _, item in work)
        except (OperationalError, InterfaceError) as exc:
            log.warning("%d sessions could not be committed and will be retried: %s", len(work), exc)
            commit_failures.inc()
            with self.changed:
                for attempt, item in work:
                    attempt.put_back(item)
            release_connections()
            time.sleep(RETRY_SECONDS)
            return
        except Exception as exc:
            release_connections()
            self._commit_one_by_one(work, exc)
            return
        now = time.monotonic()
        fenced_appends.inc(len(fenced))
        with self.changed:
            for attempt, item in work:
                if item.session_id in fenced:
                    about = {"session": item.session_id, "attempt": item.attempt}
                    log.warning(
                        "session %s: attempt %d is fenced", short_id(item.session_id), item.attempt, extra=about
                    )
                    attempt.fence()
                else:
                    attempt.committed(item, now)
            self.changed.notify_all()
        for attempt, item in work:
            if item.session_id in fenced:
                attempt.stop()

    def _commit_one_by_one(self, work: Sequence[tuple[Attempt, Append]], exc: Exception) -> None:
        """One session in this batch has data that the database rejects. Commit each separately to find it."""
        if len(work) > 1:
            for one in work:
                self._commit([one])
            return
        [(attempt, item)] = work
        about = {"session": attempt.session_id, "attempt": attempt.number}
        log.error("session %s: its chunks cannot be written", short_id(attempt.session_id), exc_info=exc, extra=about)
        with self.changed:
            attempt.refuse(item)
            self.changed.notify_all()
        attempt.stop()

    def _poll_cancels(self) -> None:
        now = time.monotonic()
        if now < self._cancel_poll_at:
            return
        self._cancel_poll_at = now + CANCEL_POLL_SECONDS
        with self.changed:
            attempts = dict(self._attempts)
        if not attempts:
            return
        try:
            wanted = transitions.cancel_requested_among(attempts)
        except DatabaseError as exc:
            log.warning("cancel requests could not be read: %s", exc)
            release_connections()
            return
        for session_id in wanted:
            attempts[session_id].cancel()
