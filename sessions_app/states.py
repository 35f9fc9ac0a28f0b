"""The states of a session."""

from __future__ import annotations

from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _


class SessionState(models.TextChoices):
    QUEUED = "queued", _("Queued")
    RUNNING = "running", _("Running")
    COMPLETED = "completed", _("Completed")
    CANCELLED = "cancelled", _("Cancelled")
    FAILED = "failed", _("Failed")


UNFINISHED_STATES = (SessionState.QUEUED, SessionState.RUNNING)
FINISHED_STATES = (SessionState.COMPLETED, SessionState.CANCELLED, SessionState.FAILED)
#: a state that only pages show: a cancel is requested, and the worker has not stopped yet
CANCELLING = "cancelling"
#: value → name that pages show
SHOWN_STATES: dict[str, Any] = {**dict(SessionState.choices), CANCELLING: _("Cancelling")}
