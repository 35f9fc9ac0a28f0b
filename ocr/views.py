"""The clerk's tray: upload cards, follow their progress, and view their pictures. It also works without JavaScript."""

from __future__ import annotations

import asyncio
import uuid
from http import HTTPStatus
from typing import cast

from django.conf import settings
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from inference.errors import ApiError
from inference.readiness import check_model_available
from ocr.access import MAY_UPLOAD, forbidden, is_by_script, log_in_first, without_picture
from ocr.audit.models import Action
from ocr.audit.viewing import note_list, note_view
from ocr.card_image import CardImage, make_ready
from ocr.extraction import start_extraction
from ocr.forms import UploadForm
from ocr.lookup import picture_lookups
from ocr.models import KtpExtraction
from ocr.rows import Reading, queue_places, read_before
from sessions_app.callers import caller_of_user
from sessions_app.db import in_db
from sessions_app.encryption import keyring
from sessions_app.encryption.sealed import check_readable
from sessions_app.request_id import current_request_id

#: maximum readings on one page of the tray
RECENT = 20
#: maximum files that a page uploads at a time
MAX_FILES = 20


@never_cache
async def upload(request: HttpRequest) -> HttpResponse:
    """The tray. A POST starts a reading and redirects to its page, or answers a script with the reading's row.

    Needs ``MAY_UPLOAD``.
    """
    if request.method not in ("GET", "HEAD", "POST"):
        return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
    user = cast("User", await request.auser())
    if not user.is_authenticated:
        return log_in_first(request)
    if not await in_db(user.has_perm, MAY_UPLOAD):
        return await in_db(forbidden, request, user)
    keyring.ring()  # without a key nothing is uploaded
    if request.method != "POST":
        return await in_db(_upload_page, request, user, UploadForm())
    return await _take(request, user)


async def _take(request: HttpRequest, user: User) -> HttpResponse:
    form = UploadForm(request.POST, request.FILES)
    status = 400
    if form.is_valid():
        file, page = form.cleaned_data["image"], form.cleaned_data["page"] or 1
        data = await asyncio.to_thread(file.read)
        try:
            await check_model_available()
            image = await make_ready(data, page=page)
            extraction = await start_extraction(
                image=image,
                file_name=file.name,
                caller=caller_of_user(user),
                user=user,
                request_id=current_request_id(),
            )
        except ApiError as refusal:
            form.refuse(refusal, data)
            status = refusal.status
        else:
            if is_by_script(request):
                return await in_db(_new_row, request, user, extraction, image, page)
            return redirect("ocr:result", pk=extraction.pk)
    if is_by_script(request):
        may_retry = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS
        return JsonResponse({"message": form.first_error, "may_retry": may_retry}, status=status)
    return await in_db(_upload_page, request, user, form, status=status)


def _new_row(request: HttpRequest, user: User, extraction: KtpExtraction, image: CardImage, page: int) -> HttpResponse:
    reading = Reading(
        extraction,
        may_change=True,
        seen_before=read_before(picture_lookups(image.data), user, besides=extraction),
        place=sum(queue_places([extraction]).values()),
        pages=image.pages,
        page=page,
    )
    request.user = user
    return render(request, "ocr/row.html", {"reading": reading}, status=201)


def _upload_page(request: HttpRequest, user: User, form: UploadForm, *, status: int = 200) -> HttpResponse:
    # The template uses request.user, which would otherwise load the user again.
    request.user = user
    rows = without_picture(KtpExtraction.objects.filter(uploaded_by=user))
    recent = Paginator(rows.order_by("-created_at"), RECENT).get_page(request.GET.get("page"))
    note_list(request, recent, where="tray")
    places = queue_places(recent)
    readings = [
        Reading(extraction, may_change=True, place=places.get(extraction.session_id or "", 0)) for extraction in recent
    ]
    context = {
        "form": form,
        "readings": readings,
        "recent": recent,
        "max_bytes": settings.OCR_MAX_UPLOAD_BYTES,
        "max_files": MAX_FILES,
    }
    return render(request, "ocr/upload.html", context, status=status)


@login_required
@require_safe
def image(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """The picture of a card, for users who may see it. No cache may keep a copy."""
    visible = KtpExtraction.objects.images_visible_to(request.user).select_related("image")
    extraction = get_object_or_404(visible, pk=pk, image__isnull=False)
    note_view(request, extraction, Action.VIEWED_IMAGE)
    check_readable(extraction.image.data)
    response = HttpResponse(bytes(extraction.image.data), content_type=extraction.image.content_type)
    response["Cache-Control"] = "no-store, private"
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    response["Content-Disposition"] = "inline"
    return response
