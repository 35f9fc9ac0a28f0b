"""The operators' actions on sessions: cancel, requeue, export, delete. Each needs a permission and is recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.db.models import SET_NULL, Count, QuerySet, Sum
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils import timezone
from django.utils.text import capfirst
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from sessions_app import privacy
from sessions_app.admin import exporting, formatting
from sessions_app.models import ChatSession, SessionMedia
from sessions_app.store import transitions
from sessions_app.store.requeueing import NotRequeueable, RequeueRefusal, requeue

if TYPE_CHECKING:
    SessionModelAdmin = admin.ModelAdmin[ChatSession]
else:
    SessionModelAdmin = admin.ModelAdmin

#: of one request to cancel or to send again; each session takes some queries
MAX_AT_ONCE = 500
REFUSAL_TEXTS = {
    RequeueRefusal.NOT_FAILED: _("It has not failed."),
    RequeueRefusal.PRIVATE: _("It is about a person and can only be sent again by the app that opened it."),
    RequeueRefusal.EXPIRED: _("Its request has been removed."),
    RequeueRefusal.MEDIA_GONE: _("Its pictures or videos have been removed."),
    RequeueRefusal.QUEUE_FULL: _("The queue is full, or its caller's share of it."),
}


class SessionActions(SessionModelAdmin):
    """The actions of the list and of the detail page."""

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm("sessions_app.cancel_chatsession")

    def has_requeue_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm("sessions_app.requeue_chatsession")

    def has_export_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request) and request.user.has_perm("sessions_app.export_chatsession")

    # --- cancelling ---

    @admin.action(description=_("Cancel selected sessions"), permissions=["cancel"])
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[ChatSession]) -> None:
        if self._are_too_many(request, queryset):
            return
        cancelled = ended = 0
        for session in queryset.only("state").order_by("pk"):
            if self._cancel(request, session):
                cancelled += 1
            else:
                ended += 1
        if cancelled:
            text = ngettext("%d session was cancelled.", "%d sessions were cancelled.", cancelled) % cancelled
            self.message_user(request, text, messages.SUCCESS)
        if ended:
            text = ngettext("%d session had already ended.", "%d sessions had already ended.", ended) % ended
            self.message_user(request, text, messages.INFO)

    def cancel_view(self, request: HttpRequest, session_id: str) -> HttpResponseRedirect:
        """The button of the detail page."""
        if not self.has_cancel_permission(request):
            raise PermissionDenied
        session: ChatSession = get_object_or_404(ChatSession.objects.only("state"), pk=session_id)
        if self._cancel(request, session):
            self.message_user(request, gettext("The session was cancelled."), messages.SUCCESS)
        else:
            self.message_user(request, gettext("The session had already ended."), messages.INFO)
        return _to_page_of(session_id)

    def _cancel(self, request: HttpRequest, session: ChatSession) -> bool:
        """Cancel it and say so in its history; False when it had ended."""
        if session.is_finished:
            return False
        now = transitions.request_cancel(session.pk)
        if now.is_finished and now.state != ChatSession.State.CANCELLED:
            return False  # it was faster
        self.log_change(request, session, "Cancelled.")
        return True

    # --- sending again ---

    @admin.action(description=_("Send selected failed sessions again"), permissions=["requeue"])
    def requeue_selected(self, request: HttpRequest, queryset: QuerySet[ChatSession]) -> None:
        if self._are_too_many(request, queryset):
            return
        refusals = Counter[RequeueRefusal]()
        sent = 0
        for session_id in queryset.order_by("created_at").values_list("pk", flat=True):
            try:
                self._requeue(request, session_id)
                sent += 1
            except NotRequeueable as exc:
                refusals[exc.args[0]] += 1
                if exc.args[0] == RequeueRefusal.QUEUE_FULL:
                    break  # nor is there room for the others
            except ChatSession.DoesNotExist:
                pass  # deleted since
        if sent:
            text = ngettext("%d session was sent again.", "%d sessions were sent again.", sent) % sent
            self.message_user(request, text, messages.SUCCESS)
        for refusal, count in refusals.items():
            text = ngettext("%d session was not sent again.", "%d sessions were not sent again.", count) % count
            self.message_user(request, f"{text} {REFUSAL_TEXTS[refusal]}", messages.WARNING)

    def _are_too_many(self, request: HttpRequest, queryset: QuerySet[ChatSession]) -> bool:
        """Whether more are selected than one request should take, which is said."""
        if queryset.order_by()[: MAX_AT_ONCE + 1].count() <= MAX_AT_ONCE:
            return False
        text = gettext("Select %(most)s sessions at most.") % {"most": formatting.count(MAX_AT_ONCE)}
        self.message_user(request, text, messages.ERROR)
        return True

    def requeue_view(self, request: HttpRequest, session_id: str) -> HttpResponseRedirect:
        """The button of the detail page. It leads to the new session."""
        if not self.has_requeue_permission(request):
            raise PermissionDenied
        get_object_or_404(ChatSession.objects.only("pk"), pk=session_id)
        try:
            session = self._requeue(request, session_id)
        except NotRequeueable as exc:
            text = gettext("The session was not sent again.")
            self.message_user(request, f"{text} {REFUSAL_TEXTS[exc.args[0]]}", messages.ERROR)
            return _to_page_of(session_id)
        self.message_user(request, gettext("This is the new session, with the same request."), messages.SUCCESS)
        return _to_page_of(session.pk)

    def _requeue(self, request: HttpRequest, session_id: str) -> ChatSession:
        session = requeue(session_id)
        self.log_change(request, ChatSession(pk=session_id), f"Sent again as {session.pk}.")
        self.log_addition(request, session, f"Sent again, with the request of {session_id}.")
        return session

    # --- exporting ---

    @admin.action(description=_("Export selected sessions as JSON"), permissions=["export"])
    def export_selected(self, request: HttpRequest, queryset: QuerySet[ChatSession]) -> HttpResponse | None:
        sessions = list(queryset.only("origin")[: exporting.MAX_SESSIONS + 1])
        if len(sessions) > exporting.MAX_SESSIONS:
            text = gettext("Select %(most)s sessions at most.") % {"most": formatting.count(exporting.MAX_SESSIONS)}
            self.message_user(request, text, messages.ERROR)
            return None
        readable = {session.origin for session in sessions if privacy.may_read(request.user, session)}
        for session in sessions:
            if session.origin in readable:
                privacy.tell_shown(session, "export", user=request.user)
        LogEntry.objects.log_actions(request.user.pk, sessions, CHANGE, "Exported.")  # type: ignore[arg-type]
        response = StreamingHttpResponse(
            exporting.json_of([session.pk for session in sessions], readable), content_type="application/json"
        )
        name = f"sessions-{timezone.now():%Y%m%d-%H%M%S}.json"
        response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        response.headers["Cache-Control"] = "no-store, private"
        return response  # type: ignore[return-value]

    # --- deleting ---

    def get_deleted_objects(
        self, objs: QuerySet[ChatSession] | Sequence[ChatSession], request: HttpRequest
    ) -> tuple[list[str], dict[str, Any], set[str], list[str]]:
        """Names the sessions, and says how much goes with them.

        Django's own way would load every chunk and every picture to list them.
        """
        sessions = list(objs)
        names = [str(session) for session in sessions if session.is_finished]
        unfinished = [
            gettext("%(session)s, which is %(state)s: cancel it first")
            % {"session": session, "state": session.get_state_display()}
            for session in sessions
            if not session.is_finished
        ]
        lacking = set() if super().has_delete_permission(request) else {str(self.opts.verbose_name)}
        return names, _deletion_summary([session for session in sessions if session.is_finished]), lacking, unfinished


def _deletion_summary(sessions: Sequence[ChatSession]) -> dict[str, Any]:
    """Counts by name: the sessions, chunks and media to delete, and the rows that stay but lose their link."""
    ids = [session.pk for session in sessions]
    goes: dict[str, Any] = {
        str(ChatSession._meta.verbose_name_plural): len(sessions),
        # An index is a number without gaps. So the chunks are counted without a look at them.
        gettext("chunks"): formatting.count(sum(one.next_index for one in sessions if one.expired_at is None)),
    }
    media = SessionMedia.objects.filter(session__in=ids).aggregate(count=Count("pk"), bytes=Sum("size"))
    if media["count"]:
        goes[gettext("pictures and videos")] = f"{formatting.count(media['count'])} ({formatting.size(media['bytes'])})"
    for relation in ChatSession._meta.related_objects:
        if relation.on_delete is SET_NULL:
            kept = relation.related_model._base_manager.filter(**{f"{relation.field.name}__in": ids}).count()
            if kept:
                name = capfirst(relation.related_model._meta.verbose_name_plural)
                goes[gettext("%(name)s that stay, without their sessions") % {"name": name}] = kept
    return goes


def _to_page_of(session_id: str) -> HttpResponseRedirect:
    return HttpResponseRedirect(reverse("admin:sessions_app_chatsession_change", args=[quote(session_id)]))
