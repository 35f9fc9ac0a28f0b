"""Revealing: NIK and date of birth are masked on every page until the user reveals them for one card.

Each reveal is recorded. It lasts ``OCR_REVEAL_SECONDS`` in the user's log-in session, so that a page still shows the
values after it was saved or reloaded. Who may see a card's values at all is decided elsewhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterable

from django.conf import settings
from django.http import HttpRequest

from ocr.audit.recording import Action, Actor, record
from ocr.masking import DOT
from ocr.models import KtpExtraction
from ocr.reading.schema import FIELD_BY_PATH, HIDDEN_FIELDS
from ocr.refusals import NotRevealed

_KEY = "ktp_revealed"
#: maximum revealed cards of one log-in; beyond it the oldest are masked again
MOST = 50


def is_revealed(request: HttpRequest, card: KtpExtraction) -> bool:
    """Whether this log-in has revealed the card within ``OCR_REVEAL_SECONDS``."""
    until: dict[str, float] = request.session.get(_KEY, {})
    return until.get(str(card.pk), 0) > time.time()


def reveal(request: HttpRequest, card: KtpExtraction, *, where: str) -> None:
    """Record a reveal, and show the card's hidden values to this log-in from now on."""
    fields = [field.path for field in HIDDEN_FIELDS]
    record(Action.REVEALED, actor=Actor.of_request(request), card=card, facts={"where": where, "fields": fields})
    now = time.time()
    until = {pk: end for pk, end in request.session.get(_KEY, {}).items() if end > now and pk != str(card.pk)}
    until[str(card.pk)] = now + settings.OCR_REVEAL_SECONDS
    request.session[_KEY] = dict(list(until.items())[-MOST:])


def has_hidden(card: KtpExtraction) -> bool:
    """Whether there is anything to reveal."""
    return any(card.values[field.path] or card.fields_read.get(field.path) for field in HIDDEN_FIELDS)


def check_revealed(card: KtpExtraction, *, revealed: bool) -> None:
    """Raises ``NotRevealed`` if a reviewer may not approve the card yet. ``revealed``: as ``is_revealed`` says."""
    if settings.OCR_REVEAL_BEFORE_APPROVAL and not revealed and has_hidden(card):
        raise NotRevealed


def is_mask(path: str, value: str) -> bool:
    """Whether a form has sent back a mask; a mask must never replace the value."""
    return FIELD_BY_PATH[path].is_hidden and DOT in value


def names_hidden(paths: Iterable[str]) -> bool:
    """Whether any of these fields is hidden."""
    return any(FIELD_BY_PATH[path].is_hidden for path in paths)
