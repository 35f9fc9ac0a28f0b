"""One POST about one card: corrections and confirmations first, then the decision."""

from __future__ import annotations

from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied

from ocr.desk import forms
from ocr.desk.forms import CardForm
from ocr.desk.rights import Rights
from ocr.models import KtpExtraction
from ocr.revealing import check_revealed
from ocr.versioned import recorded_last


def handle(card: KtpExtraction, user: User, rights: Rights, form: CardForm) -> bool:
    """Apply a valid form. Returns whether anything has changed. Raises ``Refused``, ``PermissionDenied``.

    ``rights`` are those of the card. If the decision is refused because flags are open, corrections and confirmations
    are stored nevertheless.
    """
    if not rights.review:
        raise PermissionDenied
    action, version, data = form.action, form.cleaned_data["version"], form.cleaned_data
    is_changed = False
    if action == forms.APPROVE:
        check_revealed(card, revealed=rights.revealed)
    if action in (forms.SAVE, forms.APPROVE, forms.UNCLEAR):
        values = form.values if rights.correct else {}
        is_changed = _store(card, user, values, form.confirmed, version)
        version = card.version
    if action == forms.APPROVE:
        card.approve(user, version)
    elif action == forms.REJECT:
        card.reject(user, data["reason"], data["note"], version)
    elif action == forms.UNCLEAR:
        card.leave_unclear(user, data["unclear_note"], version)
    elif action == forms.REOPEN:
        card.reopen(user, data["reopen_reason"], version)
    return is_changed or action != forms.SAVE


@recorded_last()
def _store(
    card: KtpExtraction,
    user: User,
    values: dict[str, str],
    confirmed: list[tuple[str | None, str]],
    version: int,
) -> bool:
    # Even with nothing to store, the version that the form was filled from must be current.
    before = card.values
    is_changed = card.correct(user, values, version)
    now = card.values
    for field, code in confirmed:
        # It was ticked for the value on the page, and a correction in the same form has replaced that value.
        if field is None or (field in now and before[field] == now[field]):
            is_changed |= card.confirm(user, field, code, card.version)
    return is_changed
