"""Record views in the audit log: of a card, of a list of cards, and of a page that polls for a reading's progress.

Each page that a person opens is one line. A page that polls writes one line per card in ``OCR_AUDIT_POLL_SECONDS``.
"""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.conf import settings
from django.db import models
from django.http import HttpRequest
from django.utils import timezone

from ocr.audit.actors import Actor
from ocr.audit.models import Action, AuditEntry
from ocr.audit.recording import record, record_each

if TYPE_CHECKING:
    from django.contrib.auth.models import User


def note_view(request: HttpRequest, card: models.Model, action: Action = Action.VIEWED, **facts: Any) -> None:
    """Record a view before the page is rendered. A database error is raised, so that nothing is shown unrecorded."""
    record(action, actor=Actor.of_request(request), card=card, facts=facts)


def note_list(request: HttpRequest, cards: Iterable[models.Model], *, where: str) -> None:
    """Record the cards on one page of a list. An empty page is not recorded."""
    if shown := [str(card.pk) for card in cards]:
        facts = {"where": where, "count": len(shown), "cards": shown}
        record(Action.LISTED, actor=Actor.of_request(request), facts=facts)


def note_poll(actor: Actor, card: uuid.UUID, action: Action, **facts: Any) -> None:
    """Like ``note_view``, unless the same view was recorded within ``OCR_AUDIT_POLL_SECONDS``."""
    note_polls(actor, [card], action, **facts)


def note_polls(actor: Actor, cards: Sequence[uuid.UUID], action: Action, **facts: Any) -> None:
    """Like ``note_poll``, for each of these cards."""
    since = timezone.now() - datetime.timedelta(seconds=settings.OCR_AUDIT_POLL_SECONDS)
    same = AuditEntry.objects.filter(
        card__in=cards,
        action=action,
        actor_kind=actor.kind,
        actor_id=actor.id,
        address=actor.address,
        at__gte=since,
    )
    noted = set(same.values_list("card", flat=True))
    if unnoted := [card for card in cards if card not in noted]:
        record_each(action, unnoted, actor=actor, facts=facts)


def note_session(session_id: str, what: str, *, user: User | None, caller: str) -> None:
    """Record that a session's text or picture is shown to a user or to the API's caller; polls are folded."""
    # Not ``ocr.models``: they import the recording of changes.
    readings = apps.get_model("ocr", "KtpExtraction")
    card = readings._default_manager.filter(session=session_id).values_list("pk", flat=True).first()
    actor = Actor.of_user(user) if user is not None else Actor.of_caller(caller)
    action = {"media": Action.VIEWED_IMAGE, "export": Action.EXPORTED}.get(what, Action.VIEWED_TRANSCRIPT)
    if card is None or action is Action.EXPORTED:
        record(action, actor=actor, card=card, facts={"where": what})
    else:
        note_poll(actor, card, action, where=what)
