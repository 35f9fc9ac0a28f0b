"""The page that asks for the format and the purpose of an export, and the download."""

from __future__ import annotations

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ocr.audit.models import PURPOSE_MAX_CHARS
from ocr.audit.recording import Actor
from ocr.desk.rights import user_of
from ocr.export import CONTENT_TYPES, Export, looks_like_nik
from ocr.models import KtpExtraction

MAY_EXPORT = "ocr.export_ktpextraction"
#: fields of the list's own form, which the page sends again
_CARRIED = ("action", "select_across", "index", ACTION_CHECKBOX_NAME)


class ExportForm(forms.Form):
    form = forms.ChoiceField(
        label=gettext_lazy("Format"),
        choices=(("csv", gettext_lazy("CSV, for spreadsheets")), ("json", gettext_lazy("JSON, for programs"))),
        initial="csv",
        widget=forms.RadioSelect,
    )
    purpose = forms.CharField(
        label=gettext_lazy("What for"),
        max_length=PURPOSE_MAX_CHARS,
        help_text=gettext_lazy("It is stored in the audit log, so do not enter a name or a NIK."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "class": "vTextField"}),
    )

    def clean_purpose(self) -> str:
        purpose: str = self.cleaned_data["purpose"]
        if looks_like_nik(purpose):
            raise forms.ValidationError(
                _("This looks like a NIK. The purpose is stored in the audit log and must not name a person.")
            )
        return purpose


def may_export(request: HttpRequest) -> bool:
    """Whether the user may export. The right to see the list is not enough: the file has all values in full."""
    user = user_of(request)
    return user.has_perm("ocr.view_ktpextraction") and user.has_perm(MAY_EXPORT)


def export_selected(request: HttpRequest, queryset: QuerySet[KtpExtraction]) -> HttpResponseBase | None:
    """Ask for format and purpose, then send the file. None, with a message, if there are too many readings."""
    most = settings.OCR_EXPORT_MAX_READINGS
    is_asked = "export" in request.POST
    form = ExportForm(request.POST if is_asked else None)
    ids = list(queryset.order_by("-created_at", "pk").values_list("pk", flat=True)[: most + 1])
    if len(ids) > most:
        text = _("Select %(most)d readings at most, for example by day.") % {"most": most}
        messages.error(request, text)
        return None
    if not form.is_valid():
        context = {
            **admin.site.each_context(request),
            "title": _("Export readings"),
            "opts": KtpExtraction._meta,
            "form": form,
            "count": len(ids),
            "carried": [(name, value) for name in _CARRIED for value in request.POST.getlist(name)],
        }
        return TemplateResponse(request, "ocr/admin/export.html", context, status=400 if is_asked else 200)
    chosen = form.cleaned_data
    export = Export(chosen["form"], ids, Actor.of_request(request), chosen["purpose"])
    response = StreamingHttpResponse(export.stream(), content_type=CONTENT_TYPES[export.form])
    response.headers["Content-Disposition"] = f'attachment; filename="{export.file_name}"'
    return response
