"""Which extractions: their states and who may see them, as questions to the database."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Self

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin
from django.db import models
from django.utils import timezone

from sessions_app.models import ChatSession

if TYPE_CHECKING:
    from ocr.models import KtpExtraction  # noqa: F401  (named in the base class below, in quotes)


class KtpExtractionQuerySet(models.QuerySet["KtpExtraction"]):
    def reading(self) -> Self:
        return self.filter(state="reading")

    def read(self) -> Self:
        return self.filter(state="read")

    def failed(self) -> Self:
        return self.filter(state="failed")

    def flagged(self) -> Self:
        """Those with a problem that a person should look at."""
        return self.filter(flagged=True)

    def needing_review(self) -> Self:
        return self.filter(review="needs_review")

    def completable(self) -> Self:
        """Still reading by their row, but the session behind them has finished."""
        return self.reading().filter(session__state__in=ChatSession.FINISHED_STATES)

    def abandoned(self, seconds: float) -> Self:
        """Still reading after so many seconds, and no session works for them."""
        before = timezone.now() - datetime.timedelta(seconds=seconds)
        return self.reading().filter(session=None, created_at__lt=before)

    def visible_to(self, user: AbstractBaseUser | AnonymousUser) -> Self:
        """A clerk's own; everything for staff that may view extractions."""
        if not user.is_authenticated:
            return self.none()
        if sees_everything(user, "ocr.view_ktpextraction"):
            return self.all()
        return self.filter(uploaded_by=user.pk)

    def images_visible_to(self, user: AbstractBaseUser | AnonymousUser) -> Self:
        """As ``visible_to``, for the picture of the card, which has a permission of its own."""
        if not user.is_authenticated:
            return self.none()
        if sees_everything(user, "ocr.view_ktpextraction") and sees_everything(user, "ocr.view_ktp_image"):
            return self.all()
        return self.filter(uploaded_by=user.pk)


def sees_everything(user: AbstractBaseUser | AnonymousUser, permission: str) -> bool:
    """Whether the user is active staff with ``permission``."""
    return isinstance(user, PermissionsMixin) and bool(getattr(user, "is_staff", False)) and user.has_perm(permission)
