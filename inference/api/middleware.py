"""API paths answer in OpenAI's shape also where the API itself is never reached: 404, 405, 413 and the rest."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from inference.api.error_rendering import as_api_error, bare_status_response, error_response
from inference.api.paths import is_api_path
from inference.errors import NotFound

Handler = Callable[[HttpRequest], HttpResponseBase | Awaitable[HttpResponseBase]]


class ApiErrorMiddleware:
    """Replaces the HTML and plain-text errors of API paths; JSON bodies, and all other paths, pass."""

    async_capable = True
    sync_capable = True

    def __init__(self, get_response: Handler) -> None:
        self.get_response = get_response
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._acall(request)
        return _in_shape(request, self.get_response(request))  # type: ignore[arg-type]

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        return _in_shape(request, await self.get_response(request))  # type: ignore[misc]

    def process_exception(self, request: HttpRequest, exc: Exception) -> HttpResponseBase | None:
        if not is_api_path(request.path_info):
            return None
        error = as_api_error(exc)
        return error_response(error) if error is not None else None


def _in_shape(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    if response.status_code < 400 or not is_api_path(request.path_info):
        return response
    if response.headers.get("Content-Type", "").startswith("application/json"):
        return response
    shaped = _two_slashes(response, request.path_info) or bare_status_response(response.status_code)
    # Not those of the body: with CORS's, a browser's script may read what was refused.
    for name, value in response.items():
        if not name.lower().startswith("content-"):
            shaped.headers[name] = value
    return shaped


def _two_slashes(response: HttpResponseBase, path: str) -> HttpResponseBase | None:
    """The commonest reason of a 404 by its name: a client puts ``/v1`` behind a base URL that ends in a slash."""
    if response.status_code != 404 or not path.startswith("//"):
        return None
    return error_response(NotFound("The address begins with two slashes. The base URL must not end in one."))
