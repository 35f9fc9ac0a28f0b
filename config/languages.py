"""Pages are in the reader's language: the user's choice, else the browser's last choice, else what it accepts.

The API is in English. Its errors are read by programs and their developers, and its answers must not depend on a header
that a proxy's cache does not know of.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.auth.signals import user_logged_in
from django.db import DatabaseError
from django.dispatch import receiver
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.locale import LocaleMiddleware
from django.utils import translation
from django.views.decorators.http import require_POST
from django.views.i18n import LANGUAGE_QUERY_PARAMETER, set_language

from config.models import UserLanguage
from inference.api.paths import is_api_path

SESSION_KEY = "language"
CODES = frozenset(code for code, _ in settings.LANGUAGES)


class PageLanguageMiddleware(LocaleMiddleware):
    """Django's locale middleware, which prefers the user's saved choice and skips the API's paths."""

    def process_request(self, request: HttpRequest) -> None:
        if is_api_path(request.path_info):
            # This thread may have a language active from an earlier request for a page.
            translation.deactivate()
            return
        translation.activate(_of_the_user(request) or translation.get_language_from_request(request))
        request.LANGUAGE_CODE = translation.get_language()

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        return response if is_api_path(request.path_info) else super().process_response(request, response)


def _of_the_user(request: HttpRequest) -> str | None:
    if settings.SESSION_COOKIE_NAME not in request.COOKIES:
        return None
    try:
        code = request.session.get(SESSION_KEY)
    except DatabaseError:
        return None  # Pages that do not need the database are still shown.
    return code if code in CODES else None


@require_POST
def choose_language(request: HttpRequest) -> HttpResponseBase:
    """Set the language of the form, for this browser and for the user. Leads back to the page it was chosen on."""
    response = set_language(request)
    code = request.POST.get(LANGUAGE_QUERY_PARAMETER)
    if code in CODES and request.user.is_authenticated:
        UserLanguage.objects.update_or_create(user=request.user, defaults={"code": code})
        request.session[SESSION_KEY] = code
    return response


@receiver(user_logged_in)
def remember_language(request: HttpRequest | None, user: User, **kwargs: Any) -> None:
    """The log-in session gets the user's language, so that no page asks the database for it."""
    # Django's test client logs in with a request that has no session.
    if request is not None and (chosen := UserLanguage.objects.filter(user=user).first()) is not None:
        request.session[SESSION_KEY] = chosen.code
