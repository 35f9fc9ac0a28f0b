"""The clerk's pages: upload a card, wait for the reading, see it beside the picture. No JavaScript."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, cast

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from inference.errors import ApiError
from inference.readiness import check_model_available
from ocr.extraction import complete_extraction, start_extraction
from ocr.forms import UploadForm
from ocr.models import KtpExtraction
from ocr.problems import Problem
from ocr.schema import FIELDS, Field
from sessions_app.callers import caller_of_user
from sessions_app.db import in_db
from sessions_app.request_id import current_request_id

#: what a clerk needs for the form; the API asks for a key
MAY_UPLOAD = "ocr.add_ktpextraction"

#: of the clerk's own readings, on the upload page
RECENT = 20

#: seconds until the page looks again; slower once the reading takes longer than the API would wait
REFRESH_SECONDS = 2
SLOW_REFRESH_SECONDS = 10


@never_cache
@login_required
async def upload(request: HttpRequest) -> HttpResponse:
    """The form and the clerk's own readings; a POST starts a reading and leads to its page. Needs ``MAY_UPLOAD``."""
    if request.method not in ("GET", "HEAD", "POST"):
        return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
    user = cast("User", await request.auser())
    if not await in_db(user.has_perm, MAY_UPLOAD):
        return await in_db(_forbidden_page, request, user)
    if request.method != "POST":
        return await in_db(_upload_page, request, user, UploadForm())
    form = UploadForm(request.POST, request.FILES)
    status = 400
    if form.is_valid():
        file = form.cleaned_data["image"]
        try:
            await check_model_available()
            extraction = await start_extraction(
                data=file.read(),
                file_name=file.name,
                caller=caller_of_user(user),
                user=user,
                request_id=current_request_id(),
            )
        except ApiError as refusal:
            form.refuse(refusal)
            status = refusal.status
        else:
            return redirect("ocr:result", pk=extraction.pk)
    return await in_db(_upload_page, request, user, form, status=status)


def _forbidden_page(request: HttpRequest, user: User) -> HttpResponse:
    request.user = user
    return render(request, "ocr/forbidden.html", status=403)


def _upload_page(request: HttpRequest, user: User, form: UploadForm, *, status: int = 200) -> HttpResponse:
    # The template asks for request.user, which would load it again, on the event loop's behalf.
    request.user = user
    recent = KtpExtraction.objects.filter(uploaded_by=user).order_by("-created_at")[:RECENT]
    max_mib = f"{settings.MAX_IMAGE_BYTES / 2**20:g}"
    context = {"form": form, "recent": list(recent), "max_mib": max_mib}
    return render(request, "ocr/upload.html", context, status=status)


@never_cache
@login_required
@require_safe
def result(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """The reading beside its picture, or a page that looks again by itself while the model reads."""
    extraction = get_object_or_404(KtpExtraction.objects.visible_to(request.user), pk=pk)
    extraction = complete_extraction(extraction.pk)
    context: dict[str, Any] = {
        "extraction": extraction,
        "rows": field_rows(extraction),
        "whole_problems": [problem for problem in extraction.problem_list if problem.field is None],
        "may_see_image": KtpExtraction.objects.images_visible_to(request.user).filter(pk=pk).exists(),
    }
    if extraction.state == KtpExtraction.State.READING:
        is_slow = extraction.seconds > settings.OCR_TIMEOUT_SECONDS
        context["refresh_seconds"] = SLOW_REFRESH_SECONDS if is_slow else REFRESH_SECONDS
        context["elapsed_seconds"] = int(extraction.seconds)
        context["is_slow"] = is_slow
    return render(request, "ocr/result.html", context)


@login_required
@require_safe
def image(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """The picture of a card, to whoever may see it. Nothing on the way may keep a copy."""
    visible = KtpExtraction.objects.images_visible_to(request.user).select_related("image")
    extraction = get_object_or_404(visible, pk=pk, image__isnull=False)
    response = HttpResponse(bytes(extraction.image.data), content_type=extraction.image.content_type)
    response["Cache-Control"] = "no-store, private"
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["Content-Disposition"] = "inline"
    return response


@dataclass(frozen=True, slots=True)
class FieldRow:
    """A line of the result: what is printed, and what to say about it."""

    field: Field
    value: str
    problems: list[Problem]

    @property
    def worst(self) -> str:
        """The gravest severity among the problems, or ""."""
        present = {problem.severity for problem in self.problems}
        return next((severity for severity in ("error", "warning", "info") if severity in present), "")


def field_rows(extraction: KtpExtraction) -> list[FieldRow]:
    """Every field in the card's order with its value and its problems."""
    values, problems = extraction.values, extraction.problem_list
    return [
        FieldRow(field, values[field.path], [problem for problem in problems if problem.field == field.path])
        for field in FIELDS
    ]
