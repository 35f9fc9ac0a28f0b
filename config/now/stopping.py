"""Stopping sessions from the front page: one, or all of a caller or of a worker."""

from __future__ import annotations

from django import forms
from django.contrib.admin.models import CHANGE, LogEntry
from django.db.models import QuerySet
from django.http import HttpRequest

from ocr.desk.rights import user_of
from sessions_app.models import ChatSession
from sessions_app.store import transitions

#: maximum sessions stopped by one confirmation, so that the answer does not take long
MAX_STOPPED = 500


class StopForm(forms.Form):
    """Choose all sessions of a caller, waiting ones too, or all that a worker runs."""

    caller = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)
    worker = forms.CharField(required=False, max_length=255, widget=forms.HiddenInput)

    def clean(self) -> None:
        if bool(self.cleaned_data.get("caller")) == bool(self.cleaned_data.get("worker")):
            raise forms.ValidationError("One of caller and worker is needed.")

    def sessions(self) -> QuerySet[ChatSession]:
        """The chosen sessions that are not being cancelled already. Only for a valid form."""
        caller, worker = self.cleaned_data["caller"], self.cleaned_data["worker"]
        unfinished = ChatSession.objects.unfinished().filter(cancel_requested_at=None)
        return unfinished.filter(caller=caller) if caller else unfinished.running().filter(worker=worker)


def can_be_stopped(session_id: str) -> QuerySet[ChatSession]:
    """The session, unless it has ended or is being cancelled."""
    return ChatSession.objects.unfinished().filter(pk=session_id, cancel_requested_at=None)


def stop(request: HttpRequest, sessions: QuerySet[ChatSession]) -> int:
    """Cancel at most ``MAX_STOPPED`` of them, and note in each history who did it. Returns how many."""
    stopped = []
    for session_id in sessions.order_by("created_at").values_list("pk", flat=True)[:MAX_STOPPED]:
        session = transitions.request_cancel(session_id)
        if not session.is_finished or session.state == ChatSession.State.CANCELLED:
            stopped.append(session)
    if stopped:
        LogEntry.objects.log_actions(user_of(request).pk, stopped, CHANGE, "Cancelled.")
    return len(stopped)
