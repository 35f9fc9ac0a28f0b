"""The operator's view of the sessions: find one, read it, watch it grow. Nothing can be edited here."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import URLPattern, URLResolver, path
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST

from sessions_app.admin import detail, facts, formatting, listing, media
from sessions_app.admin.actions import SessionActions
from sessions_app.admin.listing import row_context_of
from sessions_app.caller_filter import CallerFilter
from sessions_app.models import ChatSession
from sessions_app.states import SHOWN_STATES

SHORT_ID_CHARS = 11


def facts_view(request: HttpRequest, session_id: str) -> HttpResponse:
    """The part of a session's page that changes while it runs."""
    session: ChatSession = get_object_or_404(ChatSession.objects.defer("request"), pk=session_id)
    return render(request, "admin/sessions_app/chatsession/live_part.html", detail.live_part(session))


@admin.register(ChatSession)
class ChatSessionAdmin(SessionActions):
    list_display = (
        "short_id",
        "state_and_why",
        "model",
        "tokens",
        "speed",
        "first_token",
        "created",
        "origin",
        "caller",
    )
    list_filter = (
        listing.StateFilter,
        ("origin", listing.RecentValuesFilter),
        ("model", listing.RecentValuesFilter),
        CallerFilter,
        "created_at",
    )
    # Search for the beginning of each, except of callers: searching inside the ids of all sessions takes twice as long.
    search_fields = ("id__startswith", "request_id__startswith", "worker__startswith", "caller__contains")
    search_help_text = _("The beginning of a session ID, request ID or worker, or a part of a caller.")
    ordering = ("-created_at",)
    list_per_page = 50
    show_full_result_count = False
    fields = ("id",)
    actions = ("cancel_selected", "requeue_selected", "export_selected")

    class Media:
        css = {"all": ("sessions_app/admin.css",)}

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[ChangeList]:
        return listing.SessionChangeList

    # --- permissions ---

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: ChatSession | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: ChatSession | None = None) -> bool:
        return super().has_delete_permission(request, obj) and (obj is None or obj.is_finished)

    # --- the list ---

    @admin.display(description=_("ID"), ordering="id")
    def short_id(self, session: ChatSession) -> SafeString:
        short = session.pk if len(session.pk) <= SHORT_ID_CHARS else f"{session.pk[: SHORT_ID_CHARS - 1]}…"
        return format_html('<span class="session-id" title="{}">{}</span>', session.pk, short)

    @admin.display(description=_("State"), ordering="state")
    def state_and_why(self, session: ChatSession) -> SafeString:
        """The state, and below it what the session waits for, or why it failed."""
        why = format_html_join(
            "", '<span class="session-why">{}</span>', ((line,) for line in row_context_of(session).why)
        )
        state = session.shown_state
        badge = format_html('<span class="session-badge session-badge-{}">{}</span>', state, SHOWN_STATES[state])
        return format_html("{}{}", badge, why)

    @admin.display(description=_("Tokens"), ordering=listing.BY_TOKENS)
    def tokens(self, session: ChatSession) -> str:
        """Prompt → completion."""
        said = listing.tokens_of(session, row_context_of(session))
        return f"{formatting.count(session.prompt_tokens)} → {said}" if session.prompt_tokens else said

    @admin.display(description=_("Tok/s"), ordering=listing.BY_SPEED)
    def speed(self, session: ChatSession) -> str:
        """The speed of the last seconds while the session runs, else from its first token to its end."""
        now = row_context_of(session).tokens_per_second
        return formatting.rate(session.tokens_per_second if session.is_finished else now)

    @admin.display(description=_("1st token"), ordering=listing.BY_FIRST_TOKEN)
    def first_token(self, session: ChatSession) -> str:
        return formatting.duration(session.time_to_first_token)

    @admin.display(description=_("Created"), ordering="created_at")
    def created(self, session: ChatSession) -> SafeString:
        """How long ago the session was created, and below it how long it took."""
        now = timezone.now()
        took = (
            gettext("took %(time)s") % {"time": formatting.duration(facts.age(session, now))}
            if session.is_finished
            else ""
        )
        return format_html(
            '<span title="{}">{}</span><br><span class="quiet">{}</span>',
            formatting.moment(session.created_at),
            gettext("%(time)s ago") % {"time": formatting.rough(now - session.created_at)},
            took,
        )

    # --- the detail page ---

    def get_urls(self) -> list[URLPattern | URLResolver]:  # type: ignore[override]
        view = self.admin_site.admin_view
        return [
            path(
                "<str:session_id>/cancel/",
                view(require_POST(self.cancel_view)),
                name="sessions_app_chatsession_cancel",
            ),
            path(
                "<str:session_id>/requeue/",
                view(require_POST(self.requeue_view)),
                name="sessions_app_chatsession_requeue",
            ),
            path(
                "<str:session_id>/media/<int:position>/",
                view(self._for_viewers(media.original)),
                name="sessions_app_chatsession_media",
            ),
            path(
                "<str:session_id>/media/<int:position>/thumbnail/",
                view(self._for_viewers(media.thumbnail)),
                name="sessions_app_chatsession_thumbnail",
            ),
            path(
                "<str:session_id>/facts/",
                view(self._for_viewers(facts_view)),
                name="sessions_app_chatsession_facts",
            ),
            *super().get_urls(),
        ]

    def _for_viewers(self, view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
        @functools.wraps(view)
        def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            if not self.has_view_permission(request):
                raise PermissionDenied
            return view(request, *args, **kwargs)

        return answer

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: ChatSession | None = None,
    ) -> HttpResponse:
        if obj is not None:
            context |= detail.whole_page(obj, request.user)
            context["may_cancel"] = self.has_cancel_permission(request) and not obj.is_finished
            is_failed = obj.state == ChatSession.State.FAILED
            context["may_requeue"] = self.has_requeue_permission(request) and is_failed
        return super().render_change_form(request, context, add, change, form_url, obj)
