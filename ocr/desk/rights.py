"""What one user may do with readings. The desk's pages and POSTs check it here, those of clerks in ``ocr.access``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

from django.contrib.auth.models import User
from django.http import HttpRequest

from ocr.access import MAY_REVIEW
from ocr.models import KtpExtraction
from ocr.revealing import is_revealed

MAY_VIEW = "ocr.view_ktpextraction"
MAY_CORRECT = "ocr.change_ktpextraction"
MAY_SEE_HISTORY = "ocr.view_ktpchange"
MAY_FREEZE = "ocr.freeze_ktp"


@dataclass(frozen=True, slots=True)
class Rights:
    """The rights of a user of the admin."""

    view: bool
    #: decide, confirm flags, reopen, and see the values in full
    review: bool
    #: change values, which only reviewers may
    correct: bool
    #: see the page about accuracy
    accuracy: bool
    #: see why a card is under legal hold
    hold: bool = False
    #: see NIK and date of birth of this card, because the user has revealed them
    revealed: bool = False

    @classmethod
    def of(cls, request: HttpRequest) -> Rights:
        user = user_of(request)
        may_view = user.has_perm(MAY_VIEW)
        may_review = may_view and user.has_perm(MAY_REVIEW)
        return cls(
            view=may_view,
            review=may_review,
            correct=may_review and user.has_perm(MAY_CORRECT),
            accuracy=may_review or user.has_perm(MAY_SEE_HISTORY),
            hold=may_review or user.has_perm(MAY_FREEZE),
        )

    def of_card(self, request: HttpRequest, card: KtpExtraction) -> Rights:
        """These rights for one card, including whether the user has revealed it."""
        return replace(self, revealed=self.review and is_revealed(request, card))


def may_see_image(request: HttpRequest, card: KtpExtraction) -> bool:
    """Whether the card has a picture that the user may see."""
    visible = KtpExtraction.objects.images_visible_to(user_of(request))
    return visible.filter(pk=card.pk, image__isnull=False).exists()


def user_of(request: HttpRequest) -> User:
    """The user of a view that needs a log-in."""
    return cast("User", request.user)
