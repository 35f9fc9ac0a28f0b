"""The sweep: requeue sessions whose lease has expired, cancel those without listeners, remove old ones.

Every step is a conditional change, so any number of sweepers may run at once. Each worker process runs one, and
``manage.py sweep`` makes one pass.
"""

from __future__ import annotations

import datetime
import logging
import threading
from collections import Counter
from typing import Any

from django.conf import settings
from django.db import Error, transaction
from django.utils import timezone

from sessions_app import privacy
from sessions_app.db import release_connections
from sessions_app.errors import WorkerLost
from sessions_app.log_lines import short_id
from sessions_app.models import ChatSession, Chunk, Presence, SessionMedia
from sessions_app.signals import swept
from sessions_app.store import transitions

log = logging.getLogger(__name__)

#: sessions that one step takes in a pass, so that no transaction is long
BATCH_SESSIONS = 200


def sweep() -> Counter[str]:
    """Make one pass. Returns how many sessions each step moved."""
    moved = Counter[str]()
    moved["released"] = release_expired_leases()
    moved["cancelled"] = cancel_abandoned()
    # Before anything expires: signal receivers may still need the chunks.
    for receiver, result in swept.send_robust(sender=sweep):
        if isinstance(result, Exception):
            log.error("%s failed in the sweep", receiver, exc_info=result)
    moved["expired"] = expire_finished()
    moved["deleted"] = delete_old_rows()
    return +moved


def release_expired_leases() -> int:
    """Requeue sessions whose lease has expired, and fail those that have used up their attempts."""
    taken = 0
    for session in ChatSession.objects.with_expired_lease().only("attempt", "workers_lost")[:BATCH_SESSIONS]:
        about = {"session": session.pk, "attempt": session.attempt}
        if (lost := session.workers_lost + 1) >= settings.SESSION_MAX_ATTEMPTS:
            log.error("session %s failed: it has lost %d workers", short_id(session.pk), lost, extra=about)
            transitions.fail(session.pk, WorkerLost(lost))
        else:
            log.warning(
                "session %s: the lease of attempt %d has expired", short_id(session.pk), session.attempt, extra=about
            )
            transitions.release(session.pk, session.attempt, only_if_expired=True)
        taken += 1
    return taken


def cancel_abandoned() -> int:
    """Cancel sessions that have had no listener for too long.

    The limit is ``CANCEL_AFTER_DISCONNECT_SECONDS``, or ``CANCEL_UNNAMED_AFTER_SECONDS`` where the caller chose no id.
    A limit of 0 cancels none.
    """
    abandoned = ChatSession.objects.unfinished().filter(cancel_requested_at=None).abandoned()
    session_ids = list(abandoned.values_list("pk", flat=True)[:BATCH_SESSIONS])
    for session_id in session_ids:
        log.info("session %s is cancelled: it has no listener", short_id(session_id), extra={"session": session_id})
        transitions.request_cancel(session_id)
    return len(session_ids)


def expire_finished() -> int:
    """Remove chunks, media and request of sessions that ended long enough ago. The row stays, as a summary."""
    expirable = ChatSession.objects.expirable(settings.SESSIONS_TTL_SECONDS)
    if not settings.PERSIST_SESSIONS:
        # No listener in any process for three presence intervals: nobody is reading any more.
        grace_seconds = 3 * (settings.HUB_PRESENCE_SECONDS + settings.HUB_POLL_SECONDS)
        left = ChatSession.objects.expirable(grace_seconds).without_listener(grace_seconds)
        expirable = expirable | ChatSession.objects.filter(pk__in=left.values("pk"))
    session_ids = list(expirable.values_list("pk", flat=True)[:BATCH_SESSIONS])
    for session_id in session_ids:
        expire(session_id)
    return len(session_ids)


def expire(session_id: str) -> bool:
    """Remove request, chunks and media of a finished session. Returns False if it is unfinished or already expired.

    It is one transaction: a resume gets the whole stream or a 410, and a crash never leaves a part. No worker can write
    chunks afterwards: an append to a finished session is refused.
    """
    with transaction.atomic():
        expirable = ChatSession.objects.finished().filter(pk=session_id, expired_at=None)
        session = expirable.only("origin", "error").first()
        if session is None:
            return False
        changes: dict[str, Any] = {"expired_at": timezone.now(), "request": {}}
        if privacy.is_private(session):
            changes["error"] = privacy.error_without_text(session.error)
        if not expirable.update(**changes):
            return False
        for related in (Chunk, SessionMedia, Presence):
            related.objects.filter(session_id=session_id).delete()
    return True


def delete_old_rows() -> int:
    """Delete the rows too, after ``SESSIONS_HISTORY_DAYS``."""
    before = timezone.now() - datetime.timedelta(days=settings.SESSIONS_HISTORY_DAYS)
    old = ChatSession.objects.finished().filter(expired_at__isnull=False, finished_at__lt=before)
    session_ids = list(old.values_list("pk", flat=True)[:BATCH_SESSIONS])
    ChatSession.objects.filter(pk__in=session_ids).delete()
    return len(session_ids)


class Sweeper(threading.Thread):
    """Sweeps every ``SWEEP_SECONDS`` until it is stopped."""

    def __init__(self) -> None:
        super().__init__(name="sweeper", daemon=True)
        self._stopping = threading.Event()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                sweep()
            except Error as exc:
                log.warning("the sweep failed and will be retried: %s", exc)
            except Exception:
                log.exception("the sweep failed and will be retried")
            finally:
                release_connections()
            self._stopping.wait(settings.SWEEP_SECONDS)

    def stop(self, timeout_seconds: float) -> None:
        self._stopping.set()
        self.join(timeout_seconds)
