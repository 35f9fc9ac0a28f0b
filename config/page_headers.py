"""Security headers of pages, and ``Cache-Control: no-store`` for the API.

Pages have no inline script or style, so the policy needs neither nonces nor exceptions. Django 6 has a
middleware for the same setting, ``SECURE_CSP``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from inference.api.paths import is_api_path
from sessions_app.middleware import Handler, Middleware, Steps

#: statuses of Django's debug pages, which have inline styles and scripts
DEBUG_PAGES = (404, 500)


def policy_line(policy: Mapping[str, Sequence[str]]) -> str:
    """A content security policy as the value of its header, for a view with its own policy."""
    return "; ".join(f"{name} {' '.join(sources)}" for name, sources in policy.items())


class PageHeadersMiddleware(Middleware):
    """Add the headers that the view has not set."""

    def __init__(self, get_response: Handler) -> None:
        super().__init__(get_response)
        self._policy = policy_line(settings.SECURE_CSP)
        self._permissions = ", ".join(f"{name}=({who})" for name, who in settings.PERMISSIONS_POLICY.items())

    def around(self, request: HttpRequest) -> Steps:
        response = yield
        return self._with_headers(request, response)

    def _with_headers(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if is_api_path(request.path_info):
            # Cards, chats, and error answers that may contain their data.
            response.headers.setdefault("Cache-Control", "no-store")
            return response
        if not (settings.DEBUG and response.status_code in DEBUG_PAGES):
            response.headers.setdefault("Content-Security-Policy", self._policy)
        response.headers.setdefault("Permissions-Policy", self._permissions)
        return response
