"""Which rows: the states of a session as questions to the database."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from sessions_app.turns import Slot

if TYPE_CHECKING:
    from sessions_app.models import ChatSession, Chunk  # noqa: F401  (named in the annotations below)


class ChatSessionQuerySet(models.QuerySet["ChatSession"]):
    def queued(self) -> Self:
        return self.filter(state="queued")

    def running(self) -> Self:
        return self.filter(state="running")

    def unfinished(self) -> Self:
        return self.filter(state__in=("queued", "running"))

    def finished(self) -> Self:
        return self.filter(state__in=("completed", "cancelled", "failed"))

    def lapsed(self) -> Self:
        """Running by its row, but its worker has not renewed the lease."""
        return self.running().filter(lease_expires_at__lt=timezone.now())

    def claimable(self) -> Self:
        return self.filter(Q(state="queued") | Q(state="running", lease_expires_at__lt=timezone.now()))

    def waiting_for(self, worker: str) -> Self:
        """What ``actions.claim_next`` of this worker may find."""
        return self.claimable().exclude(state="running", worker=worker)

    def for_slot(self, slot: Slot) -> Self:
        """What may be claimed in a slot of this kind."""
        if slot is Slot.CARD:
            return self.filter(origin="ocr")
        if slot is Slot.NEWCOMER:
            alive = self.model.objects.running().filter(lease_expires_at__gte=timezone.now())
            of_caller = alive.filter(caller=models.OuterRef("caller"), origin=models.OuterRef("origin"))
            return self.exclude(models.Exists(of_caller))
        return self

    def unheard(self, seconds: float) -> Self:
        """Nobody has listened for so many seconds."""
        return self.filter(presence__seen_at__lt=timezone.now() - datetime.timedelta(seconds=seconds))

    def abandoned(self) -> Self:
        """Nobody has listened for too long: less long where the caller gave no id to come back with."""
        named, unnamed = settings.CANCEL_AFTER_DISCONNECT_SECONDS, settings.CANCEL_UNNAMED_AFTER_SECONDS
        left = self.unheard(named) if named else self.none()
        return left | self.unheard(unnamed).filter(is_named=False) if unnamed else left

    def held_by(self, attempt: int) -> Self:
        """Still owned by the writer with this fencing token."""
        return self.running().filter(attempt=attempt)

    def expirable(self, seconds: float) -> Self:
        """Finished so long ago that chunks and media may go."""
        before = timezone.now() - datetime.timedelta(seconds=seconds)
        return self.finished().filter(expired_at=None, finished_at__lt=before)


class ChunkQuerySet(models.QuerySet["Chunk"]):
    def after(self, session_id: str, index: int) -> Self:
        """In order, those that follow ``index``."""
        return self.filter(session_id=session_id, index__gt=index).order_by("index")

    def token_ids_by_choice(self, session_id: str) -> dict[int, list[int]]:
        """Every committed token of each of the session's answers, in order."""
        rows = self.filter(session_id=session_id).order_by("index").values_list("delta__choice", "token_ids")
        by_choice: dict[int, list[int]] = {}
        for choice, token_ids in rows:
            by_choice.setdefault(choice or 0, []).extend(token_ids)
        return by_choice

    def token_ids_of(self, session_id: str) -> list[int]:
        """Every committed token of the session, in order."""
        lists = self.filter(session_id=session_id).order_by("index").values_list("token_ids", flat=True)
        return [token_id for token_ids in lists for token_id in token_ids]
