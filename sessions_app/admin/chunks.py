"""The log of one session in the admin, a page at a time. It is reached from that session, and cannot be changed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.text import Truncator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from sessions_app.admin import formatting
from sessions_app.deltas import type_of
from sessions_app.models import ChatSession, Chunk
from sessions_app.privacy import may_read, tell_shown
from sessions_app.storable import storable_text
from sessions_app.transcript import as_json

if TYPE_CHECKING:
    ChunkModelAdmin = admin.ModelAdmin[Chunk]
else:
    ChunkModelAdmin = admin.ModelAdmin

SHORT_TEXT_CHARS = 100


@admin.register(Chunk)
class ChunkAdmin(ChunkModelAdmin):
    linked_lookups = ("session__id__exact",)
    list_display = ("index", "kind", "text", "tokens", "time")
    list_display_links = ("index",)
    sortable_by = ("index",)
    ordering = ("index",)
    list_per_page = 200
    show_full_result_count = False
    fields = ("session", "index", "content", "token_ids", "time")
    readonly_fields = ("content", "time")

    class Media:
        css = {"all": ("sessions_app/admin.css",)}

    def has_module_permission(self, request: HttpRequest) -> bool:
        return False

    def has_view_permission(self, request: HttpRequest, obj: Chunk | None = None) -> bool:
        return super().has_view_permission(request, obj) and (obj is None or may_read(request.user, obj.session))

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Chunk | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Chunk | None = None) -> bool:
        return False

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        session_id = request.GET.get("session__id__exact")
        if not session_id:
            # There are too many chunks of all sessions to count, and a list of all of them has no use.
            self.message_user(request, gettext("Open a session to see its chunks."), messages.INFO)
            return HttpResponseRedirect(reverse("admin:sessions_app_chatsession_changelist"))
        # Several ids in one address are looked for together.
        sessions = ChatSession.objects.filter(pk__in=request.GET.getlist("session__id__exact")).only("origin")
        if not all(may_read(request.user, session) for session in sessions):
            raise PermissionDenied
        for session in sessions:
            tell_shown(session, "chunks", user=request.user)
        context = {"title": gettext("Chunks"), "subtitle": session_id, "session_pk": quote(session_id)}
        return super().changelist_view(request, {**context, **(extra_context or {})})

    def render_change_form(
        self,
        request: HttpRequest,
        context: dict[str, Any],
        add: bool = False,
        change: bool = False,
        form_url: str = "",
        obj: Chunk | None = None,
    ) -> HttpResponse:
        if obj is not None:
            tell_shown(obj.session, "chunks", user=request.user)
        return super().render_change_form(request, context, add, change, form_url, obj)

    @admin.display(description=_("Type"))
    def kind(self, chunk: Chunk) -> str:
        return type_of(chunk.delta) or formatting.NONE

    @admin.display(description=_("Text"))
    def text(self, chunk: Chunk) -> SafeString:
        delta = chunk.delta if isinstance(chunk.delta, dict) else {"": chunk.delta}
        text = delta.get("text")
        if not isinstance(text, str):
            rest = {name: value for name, value in delta.items() if name != "type"}
            text = json.dumps(rest, ensure_ascii=False) if rest else ""
        return format_html('<span class="chunk-text">{}</span>', Truncator(storable_text(text)).chars(SHORT_TEXT_CHARS))

    @admin.display(description=_("Delta"))
    def content(self, chunk: Chunk) -> SafeString:
        return format_html('<pre class="session-json">{}</pre>', as_json(chunk.delta))

    @admin.display(description=_("Tokens"))
    def tokens(self, chunk: Chunk) -> int:
        return len(chunk.token_ids)

    @admin.display(description=_("Committed"))
    def time(self, chunk: Chunk) -> str:
        return formatting.precise_moment(chunk.created_at)
