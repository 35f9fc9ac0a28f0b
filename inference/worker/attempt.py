"""One attempt at a session, as its worker writes it: the pieces that wait for a commit, and how the session ends.

Three threads use an attempt. The engine's reader adds deltas, the session's thread closes it and waits, and the chunk
writer commits. All of them hold the writer's lock, ``changed``, while they change it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from django.conf import settings

from inference.engine.errors import EngineStopped
from inference.engine.handle import Handle
from inference.engine.types import Delta
from inference.errors import GenerationFailed
from inference.metrics import AttemptTimes
from inference.worker.pending import PendingPieces
from inference.worker.pieces import PieceMaker
from sessions_app.store.appending import Append, Closing

#: a lease is renewed after this fraction of its duration
RENEW_FRACTION = 1 / 3
UNWRITABLE = Closing.failed(GenerationFailed("The answer could not be stored. The log of the worker has the details."))


class Attempt:
    """One attempt at a session, from its claim until it ends or is released."""

    def __init__(
        self,
        changed: threading.Condition,
        session_id: str,
        number: int,
        index: int,
        times: AttemptTimes | None = None,
        *,
        is_sealed: bool = False,
    ) -> None:
        """``index`` is the index of its next chunk.

        ``times`` is notified of each commit. ``is_sealed`` encrypts what is written: see ``sessions_app.privacy``.
        """
        self.session_id = session_id
        self.number = number
        #: set when the closing is committed, or the attempt is fenced
        self.done = threading.Event()
        #: another worker owns the session, or it has ended: nothing more can be written
        self.is_fenced = False
        #: a cancel was requested for the session
        self.is_cancelled = False
        self._changed = changed
        self._is_sealed = is_sealed
        self._generations: Sequence[Handle] = ()
        self._times = times
        self._index = index
        #: choice → its PieceMaker
        self._makers: dict[int, PieceMaker] = {}
        self._pending = PendingPieces()
        self._closing: Closing | None = None
        self._is_first = True
        self._is_in_flight = False
        self._renew_at = _renewal(time.monotonic())

    # --- For the engine's reader and the session's thread ---

    def add(self, delta: Delta, choice: int = 0) -> None:
        """Take a delta of the engine; it is committed soon."""
        with self._changed:
            if self._closing is not None:
                return  # the writer has ended it
            had_pending = self.has_pending
            if (maker := self._makers.get(choice)) is None:
                maker = self._makers[choice] = PieceMaker(choice)
            for piece in maker.add(delta):
                self._pending.add(piece)
            # Later deltas need not wake the writer: it is committing, or waits until the next commit is due.
            if not had_pending and self.has_pending:
                self._changed.notify_all()

    def close(self, closing: Closing) -> None:
        """End the session with its pending pieces, in one transaction. ``done`` is set when it is committed."""
        with self._changed:
            if self._closing is not None:
                return
            for choice in sorted(self._makers):
                for piece in self._makers[choice].end():
                    self._pending.add(piece)
            self._closing = closing
            self._changed.notify()

    # --- For the chunk writer, with its lock held ---

    @property
    def has_pending(self) -> bool:
        """Whether something waits for a commit or is being committed."""
        if self.done.is_set():
            return False
        return bool(self._pending) or self._closing is not None or self._is_in_flight

    @property
    def is_urgent(self) -> bool:
        """Whether the next commit should not wait: it has the first piece, or the end."""
        return self.has_pending and (self._closing is not None or self._is_first)

    def take(self, now: float) -> Append | None:
        """What to commit now: pieces, the end, or the renewal of the lease. None when there is nothing."""
        if self.done.is_set() or (not self.has_pending and now < self._renew_at):
            return None
        self._is_in_flight = True
        return Append(
            self.session_id,
            self.number,
            self._index,
            self._pending.take(),
            self._closing,
            is_sealed=self._is_sealed,
        )

    def put_back(self, item: Append) -> None:
        """The commit failed and will be tried again."""
        self._pending.put_back(item.pieces)
        self._is_in_flight = False

    def committed(self, item: Append, now: float) -> None:
        self._is_in_flight = False
        self._index += len(item.pieces)
        self._is_first = self._is_first and not item.pieces
        self._renew_at = _renewal(now)
        if self._times is not None:
            self._times.committed(item)
        if item.closing is not None:
            self.done.set()

    def refuse(self, item: Append) -> None:
        """The database rejects this data permanently. End the session with an error, or fence it if that fails."""
        self._is_in_flight = False
        if item.closing is UNWRITABLE:
            self.fence()
            return
        self._pending.clear()
        self._makers.clear()
        self._closing = UNWRITABLE

    def fence(self) -> None:
        """Write nothing more."""
        self.is_fenced = True
        self._is_in_flight = False
        self.done.set()

    # --- For any thread, without the writer's lock, for which the engine may wait in ``add`` ---

    def generates(self, generations: Sequence[Handle]) -> None:
        """Have these generations stopped with the attempt: at once, if it has been cancelled or fenced."""
        self._generations = generations
        if self.is_cancelled or self.is_fenced:
            self.stop()

    def stop(self) -> None:
        """Stop its generations. The engine removes their rows before its next step (``Handle.cancel``)."""
        for generation in self._generations:
            if self.is_fenced:
                # Not a user's cancel: another worker continues the session.
                generation.finish(EngineStopped())
            else:
                generation.cancel()

    def cancel(self) -> None:
        if not self.is_cancelled:
            self.is_cancelled = True
            self.stop()


def _renewal(now: float) -> float:
    return now + float(settings.SESSION_LEASE_SECONDS) * RENEW_FRACTION
