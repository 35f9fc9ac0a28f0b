"""Collect everything that is stored about one reading, as plain objects."""

from __future__ import annotations

import base64
from typing import Any

from ocr.audit.models import AuditEntry
from ocr.models import KtpExtraction
from ocr.reading.schema import as_contract
from sessions_app.models import ChatSession

#: relations of a reading that ``held_about`` handles itself
NAMED = ("image", "history", "sessions")
#: Columns of the other relations. Data of the API caller are left out: its callback address, which may contain a
#: secret, and digests of the caller and of its requests.
OTHERS = {
    "callbacks": ("created_at", "host", "state", "attempts", "next_try_at", "status", "error", "delivered_at"),
    "submitted": ("submission", "position", "error", "error_status"),
}


def held_about(card: KtpExtraction, *, with_image: bool = True) -> dict[str, Any]:
    """The values, the picture (base64), and all actions on them: by whom and when."""
    return {
        "reading": {
            "id": str(card.pk),
            "state": card.state,
            "review": card.review,
            "uploaded_at": card.created_at,
            "uploaded_by": card.uploaded_by.get_username() if card.uploaded_by else "the API",
            "file_name": card.file_name,
            "model": card.model,
            "read_at": card.completed_at,
            "sent_for_review_at": card.submitted_at,
            "decided_at": card.reviewed_at,
            "decided_by": card.reviewed_by.get_username() if card.reviewed_by else "",
            "reject_reason": card.reject_reason,
            "picture_removed_at": card.image_removed_at,
            "frozen_at": card.frozen_at,
            "frozen_why": card.frozen_why,
        },
        "values": as_contract(card.values),
        "values_read_by_the_model": as_contract(card.fields_read),
        "answer_of_the_model": card.raw_answer,
        "problems": card.problems,
        "confirmed": card.confirmed,
        "picture": _picture(card) if with_image else None,
        "history": [
            {
                "at": line.at,
                "by": line.actor_name or "the server",
                "what": line.kind,
                "field": line.field,
                "old": line.old,
                "new": line.new,
                "code": line.code,
                "reason": line.reason,
                "note": line.note,
                "facts": line.facts,
            }
            for line in card.history.all()
        ],
        "sessions": _sessions(card),
        "audit": [
            {
                "at": entry.at,
                "what": entry.action,
                "by": f"{entry.actor_kind}:{entry.actor_name}" if entry.actor_name else entry.actor_kind,
                "purpose": entry.purpose,
            }
            for entry in AuditEntry.objects.filter(card=card.pk).order_by("sequence")
        ],
        **_others(card),
    }


def picture_of(card: KtpExtraction) -> tuple[str, bytes] | None:
    """The picture's content type and bytes, if it still exists."""
    image = getattr(card, "image", None)
    return (image.content_type, bytes(image.data)) if image is not None else None


def _picture(card: KtpExtraction) -> dict[str, str] | None:
    if (picture := picture_of(card)) is None:
        return None
    return {"content_type": picture[0], "base64": base64.b64encode(picture[1]).decode()}


def _sessions(card: KtpExtraction) -> list[dict[str, Any]]:
    ids = {*card.sessions.values_list("pk", flat=True), *([card.session_id] if card.session_id else ())}
    rows = ChatSession.objects.filter(pk__in=ids).order_by("created_at")
    columns = ("state", "model", "created_at", "started_at", "finished_at", "expired_at")
    return [dict(row) for row in rows.values(*columns)]


def _others(card: KtpExtraction) -> dict[str, Any]:
    """Rows of other tables about the reading, such as deliveries to a callback address."""
    found: dict[str, Any] = {}
    for relation in card._meta.related_objects:
        model = relation.related_model
        columns = OTHERS.get(relation.get_accessor_name() or "")
        if columns is None or not isinstance(model, type):
            continue
        rows = model._default_manager.filter(**{relation.field.name: card.pk})
        if lines := list(rows.values(*columns)):
            found[model._meta.label_lower] = lines
    return found
