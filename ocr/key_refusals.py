"""The page that users see if the server lacks the data key of a card."""

from __future__ import annotations

import logging

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext as _

from inference.api.paths import is_api_path
from ocr.access import is_by_script
from sessions_app.encryption.keyring import DataKeyMissing
from sessions_app.middleware import Middleware, Steps

log = logging.getLogger(__name__)


class DataKeyMiddleware(Middleware):
    """Renders ``DataKeyMissing`` as a page, or as JSON for a script of a page. The API has its own error."""

    def around(self, request: HttpRequest) -> Steps:
        response = yield
        return response

    def process_exception(self, request: HttpRequest, exc: Exception) -> HttpResponse | None:
        if not isinstance(exc, DataKeyMissing) or is_api_path(request.path_info):
            return None
        return refusal(request, exc)


def refusal(request: HttpRequest, exc: DataKeyMissing) -> HttpResponse:
    """The page, or the JSON for a script."""
    log.error("a page was refused: %s", exc.message)
    if is_by_script(request):
        message = _("The server cannot open this card, because its key is missing. Tell the operator of this server.")
        response: HttpResponse = JsonResponse({"message": message}, status=exc.status)
    else:
        response = render(request, "ocr/data_key_missing.html", {"key_id": exc.key_id}, status=exc.status)
    response.headers["Cache-Control"] = "no-store, private"
    return response
