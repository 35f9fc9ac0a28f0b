"""Requeue a failed session: open a new one with the stored request and media of the failed one."""

from __future__ import annotations

import enum
from typing import Any

from django.conf import settings
from django.db import transaction

from sessions_app import privacy, transcript
from sessions_app.errors import CallerQueueFull, QueueFull
from sessions_app.models import ChatSession, SessionEvent
from sessions_app.store.opening import NewMedia, open_session


class RequeueRefusal(enum.Enum):
    """Why a session cannot be sent again."""

    NOT_FAILED = "not failed"
    #: an app that stores the session's result opened it, and would not know about the new session
    PRIVATE = "private"
    #: its request has been removed
    EXPIRED = "expired"
    MEDIA_GONE = "media gone"
    QUEUE_FULL = "queue full"


class NotRequeueable(Exception):
    """The argument is the ``RequeueRefusal``."""


def requeue(session_id: str) -> ChatSession:
    """Open a new session with the request and the media of a failed one.

    The history of each gets the id of the other. The new session counts against the queue of the same caller,
    and needs no listener. Raises ``NotRequeueable`` and ``ChatSession.DoesNotExist``.
    """
    with transaction.atomic():
        # Locked, so that the request and the media do not expire while they are read.
        failed = ChatSession.objects.select_for_update().get(pk=session_id)
        if (refusal := _refusal(failed)) is not None:
            raise NotRequeueable(refusal)
        media = [NewMedia(row.kind, row.content_type, row.sha256, bytes(row.data)) for row in failed.media.all()]
        if len(media) < _media_parts(failed.request):
            raise NotRequeueable(RequeueRefusal.MEDIA_GONE)
        try:
            session, _ = open_session(
                request=failed.request,
                request_digest=failed.request_digest,
                model=settings.SERVED_MODEL_NAME,
                origin=failed.origin,
                caller=failed.caller,
                media=media,
                needs_listener=False,
            )
        except (QueueFull, CallerQueueFull) as exc:
            raise NotRequeueable(RequeueRefusal.QUEUE_FULL) from exc
        kinds = SessionEvent.Kind
        SessionEvent.objects.bulk_create(
            [
                SessionEvent(session=failed, kind=kinds.REQUEUED_AS, other_session=session.pk),
                SessionEvent(session=session, kind=kinds.REQUEUED_FROM, other_session=failed.pk),
            ]
        )
    return session


def _refusal(session: ChatSession) -> RequeueRefusal | None:
    if session.state != ChatSession.State.FAILED:
        return RequeueRefusal.NOT_FAILED
    if privacy.permission_for(session.origin):
        return RequeueRefusal.PRIVATE
    return RequeueRefusal.EXPIRED if session.expired_at is not None else None


def _media_parts(request: Any) -> int:
    parts = (part for message in transcript.read_question(request, ()).messages for part in message.parts)
    return sum(part.kind in ("image", "video") for part in parts)
