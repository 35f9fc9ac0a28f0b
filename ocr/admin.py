"""Readings in the admin: the list, bulk decisions, and the plain form of one card. The desk's rules apply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django import forms as django_forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.helpers import ActionForm
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.admin.utils import quote
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.functional import lazy
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from ocr import extraction as extractions
from ocr.audit.models import Action
from ocr.audit.recording import Actor
from ocr.audit.viewing import note_list, note_view
from ocr.callbacks import admin as callbacks_admin  # noqa: F401  (registers itself)
from ocr.desk import card as desk_card
from ocr.desk import exporting, finding
from ocr.desk.finding import DayFilter, FlagFilter, FoundFilter
from ocr.desk.forms import APPROVE, REJECT, REOPEN, REVEAL, CardForm
from ocr.desk.handling import handle
from ocr.desk.presenting import rows_of, timeline_of, whole_flags_of
from ocr.desk.rights import Rights, may_see_image, user_of
from ocr.erasing import erase
from ocr.freezing import Frozen
from ocr.history import RejectReason
from ocr.masking import mask
from ocr.models import KtpExtraction
from ocr.reading.schema import FIELD_BY_PATH, FIELDS
from ocr.refusals import Erased, Refused
from ocr.revealing import has_hidden, is_revealed
from ocr.tombstones import Why

COLUMNS = tuple(field.column for field in FIELDS)
#: the same while NIK and date of birth are masked: the masks cannot be edited
MASKED_COLUMNS = tuple(f"{field.column}_hidden" if field.is_hidden else field.column for field in FIELDS)
RECORD = (
    *("id", "session_link", "state", "model", "uploaded_by", "file_name"),
    *("created_at", "completed_at", "submitted_at", "review", "reviewed_by", "reviewed_at", "reject_reason"),
    *("image_removed_at", "frozen_at", "frozen_by", "frozen_why"),
)


#: messages about readings that were not deleted
KEPT_SHOWN = 10


class ReasonActionForm(ActionForm):
    """Adds the reason of a rejection beside the choice of the action."""

    reason = django_forms.ChoiceField(
        label=gettext_lazy("Reason:"),
        # Without OTHER: it needs a note, which is about one card.
        choices=(("", "---------"), *(choice for choice in RejectReason.choices if choice[0] != RejectReason.OTHER)),
        required=False,
    )


@admin.register(KtpExtraction)
class KtpExtractionAdmin(admin.ModelAdmin[KtpExtraction]):
    change_form_template = "ocr/admin/change_form.html"
    change_list_template = "ocr/admin/change_list.html"
    action_form = ReasonActionForm
    list_display = ("created_at", "state", "review", "nik_masked", "name_masked", "problem_count", "uploaded_by")
    list_filter = (FoundFilter, "state", "review", "flagged", FlagFilter, DayFilter, "created_at", "uploaded_by")
    list_select_related = ("uploaded_by",)
    list_per_page = 50
    date_hierarchy = None
    ordering = ("-created_at",)
    actions = ("approve_selected", "reject_selected", "export_selected")
    readonly_fields = (
        *("masked_values", "nik_hidden", "tgl_lahir_hidden", "read_by_model", "read_by_model_masked", "raw_answer"),
        *RECORD,
    )

    def formfield_for_dbfield(self, db_field: models.Field[Any, Any], request: HttpRequest, **kwargs: Any) -> Any:
        """Browsers must not remember what is typed into a value."""
        field = super().formfield_for_dbfield(db_field, request, **kwargs)
        if field is not None and db_field.name in COLUMNS:
            field.widget.attrs["autocomplete"] = "off"
        return field

    # --- Who may do what ---

    def has_add_permission(self, request: HttpRequest) -> bool:
        # Readings are created by uploads only.
        return False

    def has_change_permission(self, request: HttpRequest, obj: KtpExtraction | None = None) -> bool:
        """Correcting shows the values in full, so the permission to change is not enough."""
        return Rights.of(request).correct and (obj is None or obj.is_open)

    def has_review_permission(self, request: HttpRequest) -> bool:
        return Rights.of(request).review

    def get_fieldsets(self, request: HttpRequest, obj: KtpExtraction | None = None) -> Any:
        """Reviewers see all values and the model's answer; NIK and date of birth only after a reveal."""
        record = (_("Record"), {"fields": RECORD})
        rights = Rights.of(request)
        if not rights.review:
            # A file name may be the holder's name, and the reason of a legal hold may contain it.
            hidden = ("file_name",) if rights.hold else ("file_name", "frozen_why")
            fields = tuple(name for name in RECORD if name not in hidden)
            return ((_("Card"), {"fields": ("masked_values",)}), (_("Record"), {"fields": fields}))
        if obj is not None and has_hidden(obj) and not is_revealed(request, obj):
            return (
                (_("Card"), {"fields": MASKED_COLUMNS}),
                (_("Model's reading"), {"fields": ("read_by_model_masked",)}),
                record,
            )
        return (
            (_("Card"), {"fields": COLUMNS}),
            (_("Model's reading"), {"fields": ("read_by_model", "raw_answer")}),
            record,
        )

    # --- The list ---

    def changelist_view(self, request: HttpRequest, extra_context: dict[str, Any] | None = None) -> HttpResponse:
        # Django's own search would put the NIK into the address.
        if (without := finding.without_lost_search(request)) is not None:
            return without
        try:
            response = super().changelist_view(request, {**finding.find_context(request), **(extra_context or {})})
        except Frozen as frozen:
            return self._kept(request, frozen)
        if isinstance(response, TemplateResponse) and (context := response.context_data) and "cl" in context:
            note_list(request, context["cl"].result_list, where="admin")
        return response

    # --- Deleting erases ---

    def get_deleted_objects(
        self, objs: Sequence[KtpExtraction] | QuerySet[KtpExtraction], request: HttpRequest
    ) -> tuple[list[Any], dict[Any, Any], set[Any], list[Any]]:
        """Report frozen readings as protected: the confirmation page then lists them and deletes nothing."""
        deleted, counts, perms_needed, protected = super().get_deleted_objects(objs, request)
        frozen = [_("%(reading)s is frozen (legal hold)") % {"reading": obj} for obj in objs if obj.frozen_at]
        return deleted, counts, perms_needed, [*protected, *frozen]

    def delete_model(self, request: HttpRequest, obj: KtpExtraction) -> None:
        erase([obj], why=Why.DELETED, by=Actor.of_request(request))

    def delete_queryset(self, request: HttpRequest, queryset: QuerySet[KtpExtraction]) -> None:
        erasure = erase(queryset.values_list("pk", flat=True), why=Why.DELETED, by=Actor.of_request(request))
        if erasure.frozen:
            raise Frozen(erasure.frozen)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None) -> Any:
        try:
            return super().delete_view(request, object_id, extra_context)
        except Frozen as frozen:
            return self._kept(request, frozen)

    def _kept(self, request: HttpRequest, frozen: Frozen) -> HttpResponse:
        """The list, with a message about readings that were frozen while they were being deleted."""
        # Django logs a deletion before it deletes.
        said = LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(KtpExtraction))
        kept = KtpExtraction.objects.filter(pk__in=frozen.pks).values_list("pk", flat=True)
        said.filter(object_id__in=map(str, kept), action_flag=DELETION).delete()
        for pk in frozen.pks[:KEPT_SHOWN]:
            text = _("%(reading)s is frozen (legal hold)") % {"reading": KtpExtraction(pk=pk)}
            self.message_user(request, text, messages.ERROR)
        return HttpResponseRedirect(reverse("admin:ocr_ktpextraction_changelist"))

    @admin.display(description="NIK")
    def nik_masked(self, obj: KtpExtraction) -> str:
        return obj.masked_nik or "–"

    @admin.display(description=gettext_lazy("Name"))
    def name_masked(self, obj: KtpExtraction) -> str:
        return obj.masked_name or "–"

    @admin.display(description=gettext_lazy("Problems"))
    def problem_count(self, obj: KtpExtraction) -> str:
        if obj.review != KtpExtraction.Review.NEEDS_REVIEW:
            return "–"
        # A field counts once, however many rules flag it.
        places = len({flag.field for flag in obj.open_flags})
        return ngettext("%(count)d to check", "%(count)d to check", places) % {"count": places} if places else "–"

    def has_export_permission(self, request: HttpRequest) -> bool:
        return exporting.may_export(request)

    @admin.action(description=gettext_lazy("Export selected readings…"), permissions=["export"])
    def export_selected(self, request: HttpRequest, queryset: QuerySet[KtpExtraction]) -> HttpResponseBase | None:
        return exporting.export_selected(request, queryset)

    def get_actions(self, request: HttpRequest) -> dict[str, Any]:
        """Decisions come first. Deletion comes last, because it cannot be undone."""
        actions = super().get_actions(request)
        if settings.OCR_REVEAL_BEFORE_APPROVAL:
            # Nobody has seen the values of cards that were ticked in a list.
            actions.pop("approve_selected", None)
        return dict(sorted(actions.items(), key=lambda item: item[0] == "delete_selected"))

    @admin.action(description=gettext_lazy("Approve selected readings without problems"), permissions=["review"])
    def approve_selected(self, request: HttpRequest, queryset: QuerySet[KtpExtraction]) -> None:
        """Approve readings in bulk, except flagged ones: these must be opened."""
        user = user_of(request)
        approved = refused = 0
        for extraction in queryset:
            try:
                if extraction.flagged or not extraction.is_readable:
                    raise Refused
                extraction.approve(user, extraction.version)
            except (Refused, Erased):
                refused += 1
            else:
                self.log_change(request, extraction, "Approved in bulk.")
                approved += 1
        if approved:
            text = ngettext("%(count)d reading was approved.", "%(count)d readings were approved.", approved)
            self.message_user(request, text % {"count": approved}, messages.SUCCESS)
        self._report_refused(request, refused)

    @admin.action(description=gettext_lazy("Reject selected readings"), permissions=["review"])
    def reject_selected(self, request: HttpRequest, queryset: QuerySet[KtpExtraction]) -> None:
        """Reject readings in bulk, for the reason chosen beside the action."""
        user, reason = user_of(request), request.POST.get("reason", "")
        if reason not in RejectReason or reason == RejectReason.OTHER:
            self.message_user(request, _("Choose the reason of the rejection beside the action."), messages.ERROR)
            return
        rejected = refused = 0
        for extraction in queryset:
            try:
                extraction.reject(user, reason, "", extraction.version)
            except (Refused, Erased):
                refused += 1
            else:
                self.log_change(request, extraction, "Rejected in bulk.")
                rejected += 1
        if rejected:
            text = ngettext("%(count)d reading was rejected.", "%(count)d readings were rejected.", rejected)
            self.message_user(request, text % {"count": rejected}, messages.SUCCESS)
        self._report_refused(request, refused)

    def _report_refused(self, request: HttpRequest, refused: int) -> None:
        if refused:
            text = ngettext(
                "%(count)d reading was left as it is: it has problems, was not read, or is decided. Open it to decide.",
                "%(count)d readings were left as they are: they have problems, were not read, or are decided. "
                "Open each of them to decide.",
                refused,
            )
            self.message_user(request, text % {"count": refused}, messages.WARNING)

    # --- The plain form of one card ---

    @admin.display(description=gettext_lazy("Session"))
    def session_link(self, obj: KtpExtraction) -> SafeString | str:
        if obj.session_id is None:
            return "–"
        url = reverse("admin:sessions_app_chatsession_change", args=[quote(obj.session_id)])
        return format_html('<a href="{}">{}</a>', url, obj.session_id)

    @admin.display(description=gettext_lazy("Values"))
    def masked_values(self, obj: KtpExtraction) -> SafeString:
        # Shown only to users without the permission to review.
        rows = rows_of(obj, Rights(view=True, review=False, correct=False, accuracy=False))
        return _table(("", row.field.name, row.value or "–") for row in rows)

    @admin.display(description=lazy(lambda: FIELD_BY_PATH["nik"].name, str)())
    def nik_hidden(self, obj: KtpExtraction) -> str:
        return mask("nik", obj.nik) or "–"

    @admin.display(description=lazy(lambda: FIELD_BY_PATH["tgl_lahir"].name, str)())
    def tgl_lahir_hidden(self, obj: KtpExtraction) -> str:
        return mask("tgl_lahir", obj.tgl_lahir) or "–"

    @admin.display(description=gettext_lazy("As the model read it"))
    def read_by_model_masked(self, obj: KtpExtraction) -> SafeString | str:
        return self._read_by_model(obj, is_masked=True)

    @admin.display(description=gettext_lazy("As the model read it"))
    def read_by_model(self, obj: KtpExtraction) -> SafeString | str:
        return self._read_by_model(obj, is_masked=False)

    def _read_by_model(self, obj: KtpExtraction, *, is_masked: bool) -> SafeString | str:
        if not obj.fields_read:
            return _("Nothing yet.") if obj.state == KtpExtraction.State.READING else _("Nothing.")
        corrected = obj.corrected_fields
        return _table(
            (
                "ktp-corrected" if field.path in corrected else "",
                field.name,
                (mask(field.path, value) if is_masked and field.is_hidden else value) or "–",
            )
            for field in FIELDS
            for value in (obj.fields_read.get(field.path, ""),)
        )

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """A GET shows Django's form. A POST is always handled by the desk's code."""
        obj = self.get_object(request, object_id)
        rights = Rights.of(request)
        if obj is None or not rights.view:
            return super().change_view(request, object_id, form_url, extra_context)
        obj.check_readable()
        if request.method == "POST":
            return self._answer(request, obj, rights)
        note_view(request, obj, where="admin")
        # The sweep would do this within seconds, but the page should be current.
        obj = extractions.complete_extraction(obj.pk)
        rights = rights.of_card(request, obj)
        context = {
            **(extra_context or {}),
            "rights": rights,
            "may_reveal": rights.review and not rights.revealed and has_hidden(obj),
            "may_see_image": may_see_image(request, obj),
            "rows": rows_of(obj, rights),
            "whole_flags": whole_flags_of(obj, rights),
            "timeline": timeline_of(obj, rights),
            "reasons": RejectReason.choices,
            "show_save_and_continue": False,
        }
        return super().change_view(request, object_id, form_url, context)

    def history_view(
        self, request: HttpRequest, object_id: str, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        response = super().history_view(request, object_id, extra_context)
        if (obj := self.get_object(request, object_id)) is not None:
            note_view(request, obj, Action.VIEWED_HISTORY)
        return response

    def _answer(self, request: HttpRequest, obj: KtpExtraction, rights: Rights) -> HttpResponse:
        if not rights.review:
            raise PermissionDenied
        form = CardForm(request.POST)
        if not form.is_valid():
            return desk_card.invalid_page(request, obj, rights, form)
        if form.action == REVEAL:
            return desk_card.revealed_page(request, obj, rights, form, back=request.path)
        try:
            is_changed = handle(obj, user_of(request), rights.of_card(request, obj), form)
        except Refused as refused:
            return desk_card.refusal_page(request, obj, rights, form, refused)
        if is_changed:
            desk_card.log(request, obj, form)
        told = {APPROVE: _("Approved."), REJECT: _("Rejected."), REOPEN: _("Reopened.")}
        saved = _("Saved.") if is_changed else _("Nothing was changed.")
        self.message_user(request, told.get(form.action, saved), messages.SUCCESS if is_changed else messages.INFO)
        return HttpResponseRedirect(request.path)


def _table(rows: Any) -> SafeString:
    return format_html(
        '<table class="ktp-read">{}</table>',
        format_html_join("", '<tr class="{}"><th scope="row">{}</th><td>{}</td></tr>', rows),
    )
