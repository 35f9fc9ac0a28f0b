"""Errors on API paths are OpenAI's error object even if the API itself is never reached: 404, 405, 413 and others.

So are errors for unknown addresses, unless a browser opens them as a page.
"""

from __future__ import annotations

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from inference.api.error_rendering import as_api_error, bare_status_response, error_response
from inference.api.paths import is_api_path
from inference.api.unserved import address_not_served, is_asked_by_program
from sessions_app.middleware import Middleware, Steps


class ApiErrorMiddleware(Middleware):
    """Replaces the HTML and plain-text errors of API paths; JSON bodies, and the pages of all other paths, pass."""

    def around(self, request: HttpRequest) -> Steps:
        response = yield
        return _in_shape(request, response)

    def process_exception(self, request: HttpRequest, exc: Exception) -> HttpResponseBase | None:
        if not is_api_path(request.path_info):
            return None
        error = as_api_error(exc)
        return error_response(error) if error is not None else None


def _in_shape(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    is_unserved = response.status_code == 404 and request.resolver_match is None
    is_ours = is_asked_by_program(request) if is_unserved else is_api_path(request.path_info)
    if response.status_code < 400 or not is_ours:
        return response
    if response.headers.get("Content-Type", "").startswith("application/json"):
        return response
    status = response.status_code
    shaped = error_response(address_not_served(request)) if is_unserved else bare_status_response(status)
    # All except the headers of the body. With those of CORS, scripts in a browser may read the error.
    for name, value in response.items():
        if not name.lower().startswith("content-"):
            shaped.headers[name] = value
    return shaped
