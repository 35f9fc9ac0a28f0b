"""The reviewer's last decision, while it can be undone. It is stored in the log-in session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.utils import timezone

from ocr.models import KtpExtraction

_KEY = "ktp_undo"


@dataclass(frozen=True, slots=True)
class Undo:
    pk: str
    version: int
    #: "approved", "rejected"
    review: str
    seconds_left: float

    @property
    def is_approval(self) -> bool:
        return self.review == KtpExtraction.Review.APPROVED


def offer(request: HttpRequest, card: KtpExtraction) -> None:
    """Offer an undo of the decision about ``card`` on the next page."""
    request.session[_KEY] = {
        "pk": str(card.pk),
        "version": card.version,
        "review": card.review,
        "until": timezone.now().timestamp() + settings.OCR_UNDO_SECONDS,
    }


def pending(request: HttpRequest) -> Undo | None:
    """The decision that can still be undone, if any."""
    stored: dict[str, Any] | None = request.session.get(_KEY)
    if stored is None:
        return None
    seconds = stored["until"] - timezone.now().timestamp()
    if seconds <= 0:
        forget(request)
        return None
    return Undo(stored["pk"], stored["version"], stored["review"], round(seconds, 1))


def forget(request: HttpRequest) -> None:
    """Withdraw the offer."""
    request.session.pop(_KEY, None)
