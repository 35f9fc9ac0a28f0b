"""The workers in the database: which model each has, and whether it can be used."""

from __future__ import annotations

import datetime
from typing import Self

from django.conf import settings
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

#: number of missed heartbeats after which a worker counts as gone
MISSED_HEARTBEATS = 5


class ModelWorkerQuerySet(models.QuerySet["ModelWorker"]):
    def alive(self) -> Self:
        allowed = datetime.timedelta(seconds=settings.WORKER_HEARTBEAT_SECONDS * MISSED_HEARTBEATS)
        return self.filter(heartbeat_at__gt=timezone.now() - allowed)

    def ended(self) -> Self:
        """Stopped, or without a recent heartbeat."""
        return self.exclude(pk__in=self.model.objects.alive().exclude(state=ModelWorker.State.STOPPED).values("pk"))

    def gone(self, seconds: float) -> Self:
        """Without a heartbeat for this many seconds."""
        return self.filter(heartbeat_at__lt=timezone.now() - datetime.timedelta(seconds=seconds))


class ModelWorker(models.Model):
    """One worker process. It writes its own row; a row without a recent heartbeat is not valid."""

    class State(models.TextChoices):
        LOADING = "loading", _("Loading")
        READY = "ready", _("Ready")
        FAILED = "failed", _("Failed")
        STOPPED = "stopped", _("Stopped")

    class Condition(models.TextChoices):
        """The state as shown to operators, which includes the heartbeat and the request to drain."""

        LOADING = "loading", _("Loading")
        READY = "ready", _("Ready")
        FAILED = "failed", _("Failed")
        DRAINING = "draining", _("Draining")
        DRAINED = "drained", _("Drained")
        STOPPED = "stopped", _("Stopped")
        GONE = "gone", _("Gone")

    name = models.CharField(primary_key=True, max_length=255, help_text="host:process:random")
    model = models.CharField(max_length=255)
    state = models.CharField(max_length=8, choices=State, default=State.LOADING)
    progress = models.CharField(max_length=255, blank=True, help_text="What the loading is at.")
    error = models.TextField(blank=True)
    try_again = models.BooleanField(
        default=False, help_text="Somebody wants the model loaded again; its next heartbeat sees it."
    )
    drain = models.BooleanField(
        default=False,
        db_default=False,
        help_text="Somebody wants it to finish what it runs and to take no more; its next heartbeat sees it.",
    )
    running = models.PositiveIntegerField(default=0, help_text="Sessions it is running now.")
    vision = models.JSONField(
        default=dict, blank=True, help_text="At what size its model sees pictures, and how many tokens it holds."
    )
    # Nullable and without a default, because workers of an older version write their rows without it.
    load = models.JSONField(null=True, blank=True, help_text="How busy it is; see inference/worker/load.py.")
    started_at = models.DateTimeField(default=timezone.now)
    heartbeat_at = models.DateTimeField(default=timezone.now)

    objects = ModelWorkerQuerySet.as_manager()

    class Meta:
        ordering = ("-heartbeat_at",)
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
        permissions = (
            ("reload_modelworker", "Can load the model again where loading has failed"),
            ("drain_modelworker", "Can have a worker take no more sessions, and take them again"),
        )

    def __str__(self) -> str:
        return self.name

    @property
    def is_draining(self) -> bool:
        """Whether it could run sessions, but was asked to claim no more."""
        return self.drain and self.state == self.State.READY

    @property
    def is_alive(self) -> bool:
        allowed = settings.WORKER_HEARTBEAT_SECONDS * MISSED_HEARTBEATS
        return (timezone.now() - self.heartbeat_at).total_seconds() < allowed

    @property
    def has_ended(self) -> bool:
        """Whether it has stopped, or its heartbeats are missing."""
        return self.state == self.State.STOPPED or not self.is_alive

    @property
    def condition(self) -> Condition:
        if self.has_ended:
            return self.Condition.STOPPED if self.state == self.State.STOPPED else self.Condition.GONE
        if self.is_draining:
            return self.Condition.DRAINING if self.running else self.Condition.DRAINED
        return self.Condition(self.state)
