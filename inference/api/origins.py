"""Which web pages may call the API: django-cors-headers informs browsers, and this refuses what they send anyway.

A browser asks before it sends JSON, but it sends forms and GET requests without asking, and only hides the response
from the page. So every page that a user visits could make the server on the user's machine read cards.
"""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

from corsheaders.conf import conf
from corsheaders.middleware import CorsMiddleware
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from inference.api.error_rendering import error_response
from inference.api.paths import is_api_path
from inference.errors import Forbidden
from sessions_app.origins import MAX_ORIGIN_CHARS_LOGGED, is_own_origin

log = logging.getLogger(__name__)


class OriginMiddleware(CorsMiddleware):
    """Replaces ``CorsMiddleware``, with its settings: requests of foreign pages to API paths are refused."""

    def check_preflight(self, request: HttpRequest) -> HttpResponseBase | None:
        """Refuse a foreign page, or answer a preflight; called before all other steps."""
        origin = request.headers.get("Origin", "")
        if origin and is_api_path(request.path_info) and not self._may_call(request, origin):
            log.warning("a page of %.*r may not call the API", MAX_ORIGIN_CHARS_LOGGED, origin)
            return error_response(
                Forbidden(
                    f"Web pages of {origin[:MAX_ORIGIN_CHARS_LOGGED]} may not call this API. CORS_ALLOWED_ORIGINS "
                    "lists the origins whose pages may. While it is empty, and no API_KEYS are set, these are pages of "
                    "the server's own machine.",
                    code="origin_not_allowed",
                )
            )
        preflight: HttpResponseBase | None = super().check_preflight(request)
        return preflight

    def _may_call(self, request: HttpRequest, origin: str) -> bool:
        if conf.CORS_ALLOW_ALL_ORIGINS:
            return True
        # Browsers tell it of https and of this machine, and no page can forge it. A proxy may have changed the host.
        if request.headers.get("Sec-Fetch-Site") == "same-origin":
            return True
        if is_own_origin(origin, host=request.META.get("HTTP_HOST", ""), is_secure=request.is_secure()):
            return True
        try:
            return bool(self.origin_found_in_white_lists(origin, urlsplit(origin)))
        except ValueError:
            return False
