"""The reviewers' queue: the cards that wait for a decision, their order, and the claim of the next one."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypeVar

from django.db import models, transaction
from django.db.models.functions import Cast
from django.utils import timezone

from ocr.history import KtpChange
from ocr.reviewing import Reviewable

if TYPE_CHECKING:
    from django.contrib.auth.models import User

#: values of ``QueueFilters.flag`` beside the codes of problems
ANY_FLAG = "any"
NO_FLAG = "none"

R = TypeVar("R", bound=Reviewable)


@dataclass(frozen=True, slots=True)
class QueueFilters:
    """The part of the queue that a reviewer works on. The default is the whole queue."""

    #: ``ANY_FLAG``, ``NO_FLAG`` or the code of a problem; "" for every card
    flag: str = ""
    #: key of the user who uploaded it; 0 for cards that came through the API
    uploader: int | None = None
    #: day of the upload, in local time
    day: datetime.date | None = None
    #: keys of readings that a search has found; None without a search
    found: Sequence[uuid.UUID] | None = None


class ReviewQueueQuerySet(models.QuerySet[R]):
    def flagged(self) -> Self:
        """Cards with at least one flag."""
        return self.filter(flagged=True)

    def needing_review(self) -> Self:
        return self.filter(review=Reviewable.Review.NEEDS_REVIEW)

    def waiting_for_review(self) -> Self:
        """The queue: cards that were sent for review and are not decided."""
        return self.needing_review().filter(submitted_at__isnull=False)

    def in_queue_order(self) -> Self:
        """Flagged cards first; within each group, the longest waiting first."""
        return self.order_by("-flagged", "submitted_at", "pk")

    def matching(self, filters: QueueFilters) -> Self:
        """The cards that the filters select."""
        rows = self
        if filters.flag == ANY_FLAG:
            rows = rows.flagged()
        elif filters.flag == NO_FLAG:
            rows = rows.filter(flagged=False)
        elif filters.flag:
            # Both databases store JSON text in this form, and codes contain nothing that would need escaping.
            text = Cast("problems", models.TextField())
            rows = rows.alias(problems_text=text).filter(problems_text__icontains=f'"code": "{filters.flag}"')
        if filters.uploader is not None:
            rows = rows.filter(uploaded_by=filters.uploader or None)
        if filters.found is not None:
            rows = rows.filter(pk__in=filters.found)
        if filters.day is not None:
            start = timezone.make_aware(datetime.datetime.combine(filters.day, datetime.time()))
            rows = rows.filter(created_at__gte=start, created_at__lt=start + datetime.timedelta(days=1))
        return rows

    def claimable_by(self, user: User) -> Self:
        """Cards of the queue that no other reviewer has claimed, and that this one has not left as unclear."""
        left = KtpChange.objects.filter(extraction=models.OuterRef("pk"), kind=KtpChange.Kind.UNCLEAR, actor=user)
        free = models.Q(claimed_by=None) | models.Q(claimed_by=user) | models.Q(claimed_until__lte=timezone.now())
        return self.waiting_for_review().filter(free).exclude(models.Exists(left))

    def claim_next_for(self, user: User, filters: QueueFilters | None = None) -> R | None:
        """Claim the next card: the one that this user already has open, or else the first unclaimed one.

        Two reviewers never get the same card. Returns None if no card is left.
        """
        rows = self.claimable_by(user).matching(filters or QueueFilters())
        mine_first = models.Case(models.When(claimed_by=user, then=0), default=1)
        while True:
            with transaction.atomic():
                ordered = rows.order_by(mine_first, "-flagged", "submitted_at", "pk")
                # Another reviewer is claiming a locked row now. ``claim`` refuses a row claimed since the query.
                found = ordered.select_for_update(skip_locked=True).first()
                if found is None:
                    return None
                if found.claim(user):
                    return found
