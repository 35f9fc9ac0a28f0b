"""The durable log: a session is one request, and its chunks are the answer that every stream is read from."""

from __future__ import annotations

import datetime
import secrets
from typing import Any, Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from sessions_app.deltas import StoredDelta, is_terminal
from sessions_app.encryption.fields import OpenedBinaryField, OpenedJSONField
from sessions_app.encryption.sealed import check_readable
from sessions_app.history.models import HistoryFigure  # noqa: F401  (Django looks for models here)
from sessions_app.states import CANCELLING, FINISHED_STATES, UNFINISHED_STATES, SessionState
from sessions_app.turns import Slot

SESSION_ID_MAX_LENGTH = 64
#: members of a delta that contain nothing of what was asked and said
LEGIBLE_OF_DELTAS = (
    *("type", "choice", "reason", "status"),
    *("prompt_tokens", "completion_tokens", "reasoning_tokens", "cached_tokens"),
)


def new_session_id() -> str:
    """An id that cannot be guessed, because anyone who knows it may read and cancel the session."""
    return f"sess_{secrets.token_urlsafe(24)}"


class ChatSessionQuerySet(models.QuerySet["ChatSession"]):
    def queued(self) -> Self:
        return self.filter(state=SessionState.QUEUED)

    def running(self) -> Self:
        return self.filter(state=SessionState.RUNNING)

    def unfinished(self) -> Self:
        return self.filter(state__in=UNFINISHED_STATES)

    def finished(self) -> Self:
        return self.filter(state__in=FINISHED_STATES)

    def with_expired_lease(self) -> Self:
        """Running, but the lease has expired: the worker has not renewed it."""
        return self.running().filter(lease_expires_at__lt=timezone.now())

    def claimable(self) -> Self:
        """Queued, or running with an expired lease."""
        return self.filter(
            Q(state=SessionState.QUEUED) | Q(state=SessionState.RUNNING, lease_expires_at__lt=timezone.now())
        )

    def waiting_for(self, worker: str) -> Self:
        """The sessions that ``transitions.claim_next`` of this worker may find."""
        return self.claimable().exclude(state=SessionState.RUNNING, worker=worker)

    def for_slot(self, slot: Slot) -> Self:
        """The sessions that may be claimed into a slot of this kind."""
        if slot is Slot.CARD:
            return self.filter(origin="ocr")
        if slot is Slot.NEWCOMER:
            alive = self.model.objects.running().filter(lease_expires_at__gte=timezone.now())
            of_caller = alive.filter(caller=models.OuterRef("caller"), origin=models.OuterRef("origin"))
            return self.exclude(models.Exists(of_caller))
        return self

    def without_listener(self, seconds: float) -> Self:
        """No web process has served a listener for this many seconds."""
        return self.filter(presence__seen_at__lt=timezone.now() - datetime.timedelta(seconds=seconds))

    def abandoned(self) -> Self:
        """No listener for too long. The limit is lower for a session whose caller chose no id to resume it with."""
        named, unnamed = settings.CANCEL_AFTER_DISCONNECT_SECONDS, settings.CANCEL_UNNAMED_AFTER_SECONDS
        left = self.without_listener(named) if named else self.none()
        return left | self.without_listener(unnamed).filter(is_named=False) if unnamed else left

    def held_by(self, attempt: int) -> Self:
        """Running, and still owned by the writer with this fencing token."""
        return self.running().filter(attempt=attempt)

    def expirable(self, seconds: float) -> Self:
        """Finished more than this many seconds ago, with chunks and media that can be removed."""
        before = timezone.now() - datetime.timedelta(seconds=seconds)
        return self.finished().filter(expired_at=None, finished_at__lt=before)


class ChatSession(models.Model):
    """One generation. Its row is a state machine that only the modules of ``sessions_app.store`` change."""

    State = SessionState

    id = models.CharField(primary_key=True, max_length=SESSION_ID_MAX_LENGTH, default=new_session_id)
    state = models.CharField(_("state"), max_length=12, choices=SessionState, default=SessionState.QUEUED)
    origin = models.CharField(_("origin"), max_length=12, default="chat", help_text="Which surface asked: chat or ocr.")
    model = models.CharField(_("model"), max_length=255)
    request = OpenedJSONField(help_text="The neutral request that a worker runs.", keep=("sampling", "choices"))
    request_digest = models.CharField(
        max_length=64, blank=True, help_text="SHA-256 of the request as asked: the same id may come again only with it."
    )
    request_id = models.CharField(max_length=100, blank=True, help_text="X-Request-ID of the call that opened it.")
    # The next two have defaults in the database, because processes of an older version insert rows without them.
    caller = models.CharField(
        max_length=64, blank=True, default="", db_default="", help_text="Who asked: key:, address: or user:."
    )
    is_named = models.BooleanField(
        default=True, db_default=True, help_text="Its caller knows it by an id of its own, and may come back for it."
    )

    attempt = models.PositiveIntegerField(
        default=0, help_text="Fencing token: a claim raises it, and an append with an older one is refused."
    )
    workers_lost = models.PositiveIntegerField(
        default=0, help_text="Attempts that ended in silence. One that was handed back does not count."
    )
    lease_expires_at = models.DateTimeField(null=True, blank=True)
    worker = models.CharField(max_length=255, blank=True)
    fingerprint = models.JSONField(
        default=dict, blank=True, help_text="What must be equal for another worker to go on with the same text."
    )
    cancel_requested_at = models.DateTimeField(null=True, blank=True)
    next_index = models.PositiveIntegerField(default=0, help_text="The index that the next chunk will have.")

    finish_reason = models.CharField(max_length=20, blank=True)
    error = OpenedJSONField(null=True, blank=True, keep=("code", "type"))
    prompt_tokens = models.PositiveIntegerField(null=True, blank=True)
    # While it runs, the tokens that are committed so far: every append writes it, so no index may contain it.
    completion_tokens = models.PositiveIntegerField(null=True, blank=True)

    created_at = models.DateTimeField(_("created at"), default=timezone.now)
    enqueued_at = models.DateTimeField(null=True, blank=True, help_text="When it was last sent to the workers.")
    started_at = models.DateTimeField(null=True, blank=True, help_text="First claim.")
    first_token_at = models.DateTimeField(null=True, blank=True, help_text="Commit of the first token.")
    finished_at = models.DateTimeField(null=True, blank=True)
    expired_at = models.DateTimeField(null=True, blank=True, help_text="When its chunks and media were removed.")

    objects = ChatSessionQuerySet.as_manager()

    class Meta:
        ordering = ("-created_at",)
        verbose_name = _("session")
        verbose_name_plural = _("sessions")
        permissions = (
            ("cancel_chatsession", "Can cancel a running session"),
            ("requeue_chatsession", "Can send a failed session again"),
            ("export_chatsession", "Can export sessions"),
        )
        indexes = (
            models.Index(fields=("enqueued_at",), name="session_unfinished", condition=Q(state__in=UNFINISHED_STATES)),
            models.Index(fields=("finished_at",), name="session_finished_at"),
            models.Index(fields=("-created_at",), name="session_created_at"),
            # The columns that `turns` reads of all waiting sessions: it need not read the rows, which may be large.
            models.Index(
                fields=("state", "caller", "origin", "created_at", "workers_lost", "id"),
                name="session_turn",
                condition=Q(state__in=UNFINISHED_STATES),
            ),
            models.Index(fields=("caller", "origin", "started_at"), name="session_caller_started"),
            # Few rows: the text of a reading's session goes with its end. The sweep looks for those that were left.
            models.Index(fields=("finished_at",), name="session_card_text", condition=Q(origin="ocr", expired_at=None)),
        )
        constraints = (
            models.CheckConstraint(
                name="session_finished_has_time",
                condition=Q(state__in=UNFINISHED_STATES, finished_at=None)
                | Q(state__in=FINISHED_STATES, finished_at__isnull=False),
            ),
        )

    def __str__(self) -> str:
        return self.id

    @property
    def shown_state(self) -> str:
        """The state that people see: ``CANCELLING`` while it still runs after a cancel request."""
        is_cancelling = self.state == SessionState.RUNNING and self.cancel_requested_at is not None
        return CANCELLING if is_cancelling else self.state

    @property
    def is_finished(self) -> bool:
        return self.state in FINISHED_STATES

    def is_at_end(self, after: int) -> bool:
        """Whether no chunk follows the index ``after``, and none will."""
        return self.is_finished and after >= self.next_index - 1

    @property
    def time_to_first_token(self) -> datetime.timedelta | None:
        """From the request to the commit of the first token, including the wait in the queue."""
        return self.first_token_at - self.created_at if self.first_token_at else None

    @property
    def tokens_per_second(self) -> float | None:
        """Generated tokens over the time from the first committed token to the end."""
        if not (self.completion_tokens and self.first_token_at and self.finished_at):
            return None
        seconds = (self.finished_at - self.first_token_at).total_seconds()
        return self.completion_tokens / seconds if seconds > 0 else None


class ChunkQuerySet(models.QuerySet["Chunk"]):
    def after(self, session_id: str, index: int) -> Self:
        """The session's chunks with a higher index, in order."""
        return self.filter(session_id=session_id, index__gt=index).order_by("index")

    def token_ids_by_choice(self, session_id: str) -> dict[int, list[int]]:
        """Every committed token of each of the session's answers, in order. Raises ``DataKeyMissing``."""
        rows = self.filter(session_id=session_id).order_by("index").values_list("delta__choice", "token_ids")
        by_choice: dict[int, list[int]] = {}
        for choice, token_ids in rows:
            check_readable(token_ids)
            by_choice.setdefault(choice or 0, []).extend(token_ids)
        return by_choice

    def token_ids_of(self, session_id: str) -> list[int]:
        """Every committed token of the session, in order."""
        lists = self.filter(session_id=session_id).order_by("index").values_list("token_ids", flat=True)
        return [token_id for token_ids in lists for token_id in token_ids]


class Chunk(models.Model):
    """One piece of a session's stream. The event id on the wire is ``session_id:index``."""

    # The unique constraint below is the index that every read uses. Another index would only slow down the writer.
    session = models.ForeignKey(ChatSession, on_delete=models.CASCADE, related_name="chunks", db_index=False)
    index = models.PositiveIntegerField()
    # Read as Any: what a row holds is for its reader to check.
    delta: models.JSONField[StoredDelta, Any] = OpenedJSONField(keep=LEGIBLE_OF_DELTAS)
    token_ids: models.JSONField[list[int], list[int]] = OpenedJSONField(default=list)
    created_at = models.DateTimeField(default=timezone.now)

    objects = ChunkQuerySet.as_manager()

    class Meta:
        ordering = ("session", "index")
        constraints = (models.UniqueConstraint(fields=("session", "index"), name="chunk_index_once_a_session"),)

    def __str__(self) -> str:
        return f"{self.session_id}:{self.index}"

    @property
    def is_terminal(self) -> bool:
        return is_terminal(self.delta)


class SessionMedia(models.Model):
    """An image or video of a request, as it was sent, so that every attempt at the session sees the same pixels."""

    session = models.ForeignKey(ChatSession, on_delete=models.CASCADE, related_name="media", db_index=False)
    position = models.PositiveSmallIntegerField(help_text="Order of appearance in the request.")
    kind = models.CharField(max_length=5, choices=(("image", "Image"), ("video", "Video")))
    content_type = models.CharField(max_length=100)
    sha256 = models.CharField(max_length=64, help_text="Empty where the data is encrypted, which authenticates it.")
    size = models.PositiveIntegerField(help_text="Bytes.")
    data = OpenedBinaryField()

    class Meta:
        ordering = ("session", "position")
        verbose_name_plural = "session media"
        constraints = (models.UniqueConstraint(fields=("session", "position"), name="media_position_once_a_session"),)

    def __str__(self) -> str:
        return f"{self.session_id} {self.kind} {self.position}"


class Presence(models.Model):
    """When a web process last served a listener of the session. A process that dies stops writing it."""

    session = models.OneToOneField(ChatSession, on_delete=models.CASCADE, primary_key=True, related_name="presence")
    seen_at = models.DateTimeField()

    class Meta:
        verbose_name_plural = "presences"
        indexes = (models.Index(fields=("seen_at",), name="presence_seen_at"),)

    def __str__(self) -> str:
        return f"{self.session_id} at {self.seen_at:%H:%M:%S}"


class SessionEvent(models.Model):
    """An event of a session that its row does not store: a claim, a release, a resume of its stream."""

    class Kind(models.TextChoices):
        #: a worker claimed it, with ``attempt`` and ``worker``
        CLAIMED = "claimed", _("Claimed")
        #: its worker released it, with ``attempt`` and ``worker``
        RELEASED = "released", _("Released")
        #: the lease of its worker expired, with ``attempt`` and ``worker``
        LEASE_EXPIRED = "lease_expired", _("Lease expired")
        #: a client resumed its stream after the chunk ``index``
        RESUMED = "resumed", _("Resumed")
        #: an operator opened ``other_session`` with this session's request, or this one with the request of that one
        REQUEUED_AS = "requeued_as", _("Requeued as")
        REQUEUED_FROM = "requeued_from", _("Requeued from")

    # The composite index below serves every read.
    session = models.ForeignKey(ChatSession, on_delete=models.CASCADE, related_name="events", db_index=False)
    kind = models.CharField(max_length=16, choices=Kind)
    at = models.DateTimeField(default=timezone.now)
    attempt = models.PositiveIntegerField(null=True, blank=True)
    worker = models.CharField(max_length=255, blank=True, default="", db_default="")
    index = models.PositiveIntegerField(null=True, blank=True)
    other_session = models.CharField(max_length=SESSION_ID_MAX_LENGTH, blank=True, default="", db_default="")

    class Meta:
        ordering = ("session", "at", "id")
        default_permissions = ()
        indexes = (models.Index(fields=("session", "at"), name="event_session_at"),)

    def __str__(self) -> str:
        return f"{self.session_id} {self.kind}"
