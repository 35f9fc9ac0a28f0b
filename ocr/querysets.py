"""Which extractions: their states and who may see them, as questions to the database."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser, PermissionsMixin
from django.db import models, transaction
from django.db.models.functions import Coalesce
from django.utils import timezone

from ocr.history import KtpChange
from sessions_app.models import ChatSession

if TYPE_CHECKING:
    from django.contrib.auth.models import User

    from ocr.models import KtpExtraction

#: values of ``QueueFilters.flag`` that are no code of a problem
ANY_FLAG = "any"
NO_FLAG = "none"


@dataclass(frozen=True, slots=True)
class QueueFilters:
    """Which part of the queue a reviewer works on; as it stands, all of it."""

    #: ``ANY_FLAG``, ``NO_FLAG`` or the code of a problem; "" for every card
    flag: str = ""
    #: key of the user who uploaded it; 0 for what came through the API
    uploader: int | None = None
    #: of the upload, in local time
    day: datetime.date | None = None


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

    def waiting_for_review(self) -> Self:
        """The reviewers' queue: sent for review, and nobody has decided."""
        return self.needing_review().filter(submitted_at__isnull=False)

    def in_queue_order(self) -> Self:
        """Flagged first, and of each kind the one that has waited longest."""
        return self.order_by("-flagged", "submitted_at", "pk")

    def matching(self, filters: QueueFilters) -> Self:
        """Those of the queue that a reviewer wants to see."""
        rows = self
        if filters.flag == ANY_FLAG:
            rows = rows.filter(flagged=True)
        elif filters.flag == NO_FLAG:
            rows = rows.filter(flagged=False)
        elif filters.flag:
            # As both databases write JSON as text; codes are words of ours.
            rows = rows.filter(problems__icontains=f'"code": "{filters.flag}"')
        if filters.uploader is not None:
            rows = rows.filter(uploaded_by=filters.uploader or None)
        if filters.day is not None:
            start = timezone.make_aware(datetime.datetime.combine(filters.day, datetime.time()))
            rows = rows.filter(created_at__gte=start, created_at__lt=start + datetime.timedelta(days=1))
        return rows

    def claimable_by(self, user: User) -> Self:
        """Those of the queue that no other reviewer has open, and that this one has not left as unclear."""
        left = KtpChange.objects.filter(extraction=models.OuterRef("pk"), kind=KtpChange.Kind.UNCLEAR, actor=user)
        free = models.Q(claimed_by=None) | models.Q(claimed_by=user) | models.Q(claimed_until__lte=timezone.now())
        return self.waiting_for_review().filter(free).exclude(models.Exists(left))

    def claim_next_for(self, user: User, filters: QueueFilters | None = None) -> KtpExtraction | None:
        """The next card of the queue, claimed: the one the user has open already, or the first that nobody has.

        Two reviewers never get the same card. None when there is none.
        """
        rows = self.claimable_by(user).matching(filters or QueueFilters())
        mine_first = models.Case(models.When(claimed_by=user, then=0), default=1)
        while True:
            with transaction.atomic():
                ordered = rows.order_by(mine_first, "-flagged", "submitted_at", "pk")
                # Whoever holds the row is claiming it; one that is claimed once the lock is free is passed over below.
                found = ordered.select_for_update(skip_locked=True).first()
                if found is None:
                    return None
                if found.claim(user):
                    return found

    def completable(self) -> Self:
        """Still reading by their row, but the session behind them has finished."""
        return self.reading().filter(session__state__in=ChatSession.FINISHED_STATES)

    def abandoned(self, seconds: float) -> Self:
        """Still reading after so many seconds, and no session works for them."""
        before = timezone.now() - datetime.timedelta(seconds=seconds)
        started = Coalesce("read_again_at", "created_at")
        return self.reading().alias(started=started).filter(session=None, started__lt=before)

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
