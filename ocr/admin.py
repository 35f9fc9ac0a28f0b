"""The reviewer's desk: readings to check beside their pictures, to correct, and to approve or reject."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.admin.utils import quote
from django.contrib.auth.models import User
from django.db.models import QuerySet
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from ocr import extraction as extractions
from ocr.models import KtpExtraction, RejectReason
from ocr.refusals import Refused
from ocr.schema import FIELDS

COLUMNS = tuple(field.column for field in FIELDS)

#: POST names of the buttons on the detail page, and what each does
DECISIONS = ("_approve", "_reject", "_reopen")


@admin.register(KtpExtraction)
class KtpExtractionAdmin(admin.ModelAdmin[KtpExtraction]):
    change_form_template = "ocr/admin/change_form.html"
    list_display = ("created_at", "state", "review", "nik_masked", "name_masked", "problem_count", "uploaded_by")
    list_filter = ("state", "review", "flagged", "created_at", "uploaded_by")
    list_select_related = ("uploaded_by",)
    list_per_page = 50
    date_hierarchy = None
    ordering = ("-created_at",)
    search_fields = ("session__id",)
    search_help_text = "The id of the extraction or of its session."
    actions = ("approve_selected", "reject_selected")
    fieldsets = (
        ("Card", {"fields": COLUMNS}),
        ("Model's reading", {"fields": ("read_by_model", "raw_answer")}),
        (
            "Record",
            {
                "fields": (
                    *("id", "session_link", "state", "model", "uploaded_by", "file_name"),
                    *("created_at", "completed_at", "review", "reviewed_by", "reviewed_at"),
                )
            },
        ),
    )
    readonly_fields = (
        *("read_by_model", "raw_answer"),
        *("id", "session_link", "state", "model", "uploaded_by", "file_name"),
        *("created_at", "completed_at", "review", "reviewed_by", "reviewed_at"),
    )

    def has_add_permission(self, request: HttpRequest) -> bool:
        # A reading is made by uploading a card.
        return False

    def has_review_permission(self, request: HttpRequest) -> bool:
        return cast("User", request.user).has_perm("ocr.review_ktp")

    def get_readonly_fields(self, request: HttpRequest, obj: KtpExtraction | None = None) -> tuple[str, ...]:
        """Values can be corrected while nobody has vouched for them, and not while the model is reading."""
        if obj is None or obj.review != KtpExtraction.Review.NEEDS_REVIEW or obj.state == KtpExtraction.State.READING:
            return (*self.readonly_fields, *COLUMNS)
        return tuple(cast("tuple[str, ...]", self.readonly_fields))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[KtpExtraction], search_term: str
    ) -> tuple[QuerySet[KtpExtraction], bool]:
        # SQLite stores a UUID without its hyphens, so a text search for one never finds it.
        try:
            return queryset.filter(pk=uuid.UUID(search_term.strip())), False
        except ValueError:
            return super().get_search_results(request, queryset, search_term)

    # --- The list ---

    @admin.display(description="NIK")
    def nik_masked(self, obj: KtpExtraction) -> str:
        return obj.masked_nik or "–"

    @admin.display(description="Nama")
    def name_masked(self, obj: KtpExtraction) -> str:
        return obj.masked_name or "–"

    @admin.display(description="Problems")
    def problem_count(self, obj: KtpExtraction) -> str:
        # One place to look at, however many rules point to it.
        places = {problem.field for problem in obj.problem_list if problem.severity != "info"}
        return f"{len(places)} to check" if places else "–"

    @admin.action(description="Approve selected readings without problems", permissions=["review"])
    def approve_selected(self, request: HttpRequest, queryset: QuerySet[KtpExtraction]) -> None:
        """Approve in bulk what no check has flagged; a flagged reading must be opened and looked at."""
        user = cast("User", request.user)
        approved = refused = 0
        for extraction in queryset:
            if not extraction.flagged and self._succeeds(extraction.approve, user, extraction.version):
                self.log_change(request, extraction, "Approved in bulk.")
                approved += 1
            else:
                refused += 1
        if approved:
            self.message_user(request, f"{approved} readings approved.", messages.SUCCESS)
        if refused:
            self.message_user(
                request,
                f"{refused} readings were not approved: they have problems, were not read, or are reviewed already. "
                "Open each of them to decide.",
                messages.WARNING,
            )

    @admin.action(description="Reject selected readings", permissions=["review"])
    def reject_selected(self, request: HttpRequest, queryset: QuerySet[KtpExtraction]) -> None:
        user = cast("User", request.user)
        rejected = 0
        for extraction in queryset:
            if self._succeeds(extraction.reject, user, RejectReason.OTHER, "Rejected in bulk.", extraction.version):
                self.log_change(request, extraction, "Rejected in bulk.")
                rejected += 1
        self.message_user(request, f"{rejected} readings rejected.", messages.SUCCESS)

    # --- The detail page ---

    @admin.display(description="Session")
    def session_link(self, obj: KtpExtraction) -> SafeString | str:
        if obj.session_id is None:
            return "–"
        url = reverse("admin:sessions_app_chatsession_change", args=[quote(obj.session_id)])
        return format_html('<a href="{}">{}</a>', url, obj.session_id)

    @admin.display(description="As the model read it")
    def read_by_model(self, obj: KtpExtraction) -> SafeString | str:
        if not obj.fields_read:
            return "Nothing yet." if obj.state == KtpExtraction.State.READING else "Nothing."
        rows = (
            (
                "ktp-corrected" if getattr(obj, field.column) != (read := obj.fields_read.get(field.path, "")) else "",
                field.label,
                read or "–",
            )
            for field in FIELDS
        )
        return format_html(
            '<table class="ktp-read">{}</table>',
            format_html_join("", '<tr class="{}"><th scope="row">{}</th><td>{}</td></tr>', rows),
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        obj = self.get_object(request, object_id)
        if obj is not None and obj.state == KtpExtraction.State.READING:
            # The sweep would do it within seconds; who looks now need not wait for it.
            obj = extractions.complete_extraction(obj.pk)
        context = {
            **(extra_context or {}),
            "may_see_image": obj is not None
            and KtpExtraction.objects.images_visible_to(cast("User", request.user)).filter(pk=obj.pk).exists(),
            "may_review": self.has_review_permission(request) and self.has_change_permission(request, obj),
        }
        return super().change_view(request, object_id, form_url, context)

    def save_model(
        self, request: HttpRequest, obj: KtpExtraction, form: ModelForm[KtpExtraction], change: bool
    ) -> None:
        """Write only what the reviewer changed: a reading that completes meanwhile is not overwritten."""
        values = {field.path: getattr(obj, field.column) for field in FIELDS if field.column in form.changed_data}
        if values:
            obj.correct(cast("User", request.user), values, obj.version)

    def response_change(self, request: HttpRequest, obj: KtpExtraction) -> HttpResponse:
        if not any(name in request.POST for name in DECISIONS):
            return super().response_change(request, obj)
        if not self.has_review_permission(request):
            self.message_user(request, "You may not review readings.", messages.ERROR)
        elif self._decide(request, obj):
            self.log_change(request, obj, f"Review: {obj.get_review_display()}.")
            self.message_user(request, f"{obj}: {obj.get_review_display()}.", messages.SUCCESS)
        else:
            self.message_user(
                request,
                f"{obj} was not changed: it is {obj.get_review_display()}, {obj.get_state_display()}.",
                messages.WARNING,
            )
        return HttpResponseRedirect(request.path)

    def _decide(self, request: HttpRequest, obj: KtpExtraction) -> bool:
        reviewer = cast("User", request.user)
        if "_approve" in request.POST:
            return self._succeeds(obj.approve, reviewer, obj.version)
        if "_reject" in request.POST:
            return self._succeeds(obj.reject, reviewer, RejectReason.OTHER, "Rejected.", obj.version)
        return self._succeeds(obj.reopen, reviewer, "Reopened.", obj.version)

    def _succeeds(self, transition: Callable[..., None], *arguments: Any) -> bool:
        try:
            transition(*arguments)
        except Refused:
            return False
        return True
