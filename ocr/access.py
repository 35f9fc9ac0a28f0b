"""Who may do what on the clerk's pages. Users without permission get a page, and scripts get JSON."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Callable
from typing import Any, cast

from django.contrib.auth.models import User
from django.contrib.auth.views import redirect_to_login
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, render, resolve_url
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache

from ocr.models import KtpExtraction, KtpExtractionQuerySet

#: permission that a clerk needs for the form; the API requires a key instead
MAY_UPLOAD = "ocr.add_ktpextraction"
#: permission of reviewers; at the desk only they see identifying values in full
MAY_REVIEW = "ocr.review_ktp"

View = Callable[..., HttpResponseBase]


def is_by_script(request: HttpRequest) -> bool:
    """Whether a script of one of our pages sent the request. A script must not be redirected to a page."""
    return request.headers.get("Accept", "").startswith("application/json")


def log_in_first(request: HttpRequest) -> HttpResponse:
    """Redirect to the log-in page. A script gets a 401: the user can log in in another tab and loses nothing."""
    if is_by_script(request):
        return JsonResponse({"login": resolve_url("login")}, status=401)
    return redirect_to_login(request.get_full_path())


def forbidden(request: HttpRequest, user: User) -> HttpResponse:
    """Which permission the user lacks, and whom to ask for it."""
    request.user = user
    if is_by_script(request):
        return JsonResponse({"message": _("Your account may not upload cards any more.")}, status=403)
    return render(request, "ocr/forbidden.html", status=403)


def logged_in(view: View) -> View:
    """For views that are not asynchronous."""

    @never_cache
    @functools.wraps(view)
    def answer(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not request.user.is_authenticated:
            return log_in_first(request)
        return view(request, *args, **kwargs)

    return answer


def without_picture(rows: KtpExtractionQuerySet) -> KtpExtractionQuerySet:
    """The readings with their sessions and the metadata of their images, without the image bytes."""
    return rows.select_related("session", "image").defer("raw_answer", "image__data")


def visible_or_404(request: HttpRequest, pk: uuid.UUID) -> KtpExtraction:
    """The reading, if the user may see it. Raises ``DataKeyMissing``."""
    return _readable(get_object_or_404(without_picture(KtpExtraction.objects.visible_to(request.user)), pk=pk))


def own_or_404(request: HttpRequest, pk: uuid.UUID) -> KtpExtraction:
    """The reading, if the user uploaded it and is still a clerk. Otherwise the user may not change it."""
    user = cast("User", request.user)
    rows = without_picture(KtpExtraction.objects.filter(uploaded_by=user.pk))
    return _readable(get_object_or_404(rows if user.has_perm(MAY_UPLOAD) else rows.none(), pk=pk))


def _readable(extraction: KtpExtraction) -> KtpExtraction:
    extraction.check_readable()
    return extraction


def sees_values(extraction: KtpExtraction, user: User) -> bool:
    """Whether the user sees the holder's data in full: the card's uploader and reviewers do."""
    return extraction.uploaded_by_id == user.pk or user.has_perm(MAY_REVIEW)


def is_own(extraction: KtpExtraction, user: User) -> bool:
    """Whether the user may change it, by the rule of ``own_or_404``."""
    return extraction.uploaded_by_id == user.pk and user.has_perm(MAY_UPLOAD)
