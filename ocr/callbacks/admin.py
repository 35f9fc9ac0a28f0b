"""Callbacks in the admin: operators see what was sent and what was not, and send it again. No card data is here."""

from __future__ import annotations

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy, ngettext

from ocr.callbacks.models import KtpCallback
from ocr.callbacks.sending import send_again

SHOWN = (
    *("id", "caller", "about", "host", "state", "attempts", "next_attempt"),
    *("status", "error", "created_at", "delivered_at"),
)


@admin.register(KtpCallback)
class KtpCallbackAdmin(admin.ModelAdmin[KtpCallback]):
    list_display = ("created_at", "host", "about", "state", "attempts", "next_attempt", "status", "error")
    list_filter = ("state", "host", "created_at")
    list_per_page = 50
    fields = readonly_fields = SHOWN
    actions = ("send_selected_again",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[KtpCallback]:
        # The address may hold a secret, and is not shown.
        return super().get_queryset(request).defer("url")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: KtpCallback | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: KtpCallback | None = None) -> bool:
        return False

    def has_resend_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("ocr.resend_ktpcallback")

    @admin.display(description=gettext_lazy("About"))
    def about(self, obj: KtpCallback) -> str:
        """The id of the reading or of the batch."""
        return str(obj.extraction_id or obj.submission_id)

    @admin.display(description=gettext_lazy("Next attempt"), ordering="next_try_at")
    def next_attempt(self, obj: KtpCallback) -> object:
        return obj.next_try_at if obj.state == KtpCallback.State.PENDING else "–"

    @admin.action(description=gettext_lazy("Send selected callbacks again"), permissions=["resend"])
    def send_selected_again(self, request: HttpRequest, queryset: QuerySet[KtpCallback]) -> None:
        count = send_again(list(queryset))
        text = ngettext("%(count)d callback is sent again.", "%(count)d callbacks are sent again.", count)
        self.message_user(request, text % {"count": count}, messages.SUCCESS)
