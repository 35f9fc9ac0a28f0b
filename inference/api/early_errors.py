"""Answer requests that the web server refused on arrival, and requests that failed before Django had them.

The server reads heads and bodies and does not know the API, so it only passes on why it refuses a request. The response
is made here, like every other: with a request id, a log line, CORS headers, and the error object on the API's paths.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.decorators import async_only_middleware

from inference.api.error_rendering import bare_status_response, error_response
from inference.api.paths import is_api_path
from inference.errors import ApiError
from sessions_app.http_channel import EXTENSION, Received, Refusal

log = logging.getLogger(__name__)

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


@async_only_middleware
def answer_refusals(
    get_response: Callable[[HttpRequest], Awaitable[HttpResponseBase]],
) -> Callable[[HttpRequest], Awaitable[HttpResponseBase]]:
    """Answer the refusals of the web server. Must come after the middlewares that add ids and CORS headers."""

    async def answer(request: HttpRequest) -> HttpResponseBase:
        received: Received | None = getattr(request, "scope", {}).get("extensions", {}).get(EXTENSION)
        if received is None or received.refusal is None:
            return await get_response(request)
        return refusal_response(request, received.refusal)

    return answer


def refusal_response(request: HttpRequest, refusal: Refusal) -> HttpResponseBase:
    """The error object on the API's paths, and a page with the same message elsewhere."""
    if is_api_path(request.path_info):
        return error_response(ApiError(refusal.message, code=refusal.code, status=refusal.status))
    return render(request, "refused.html", {"message": refusal.message}, status=refusal.status)


def with_error_fallback(application: Application) -> Application:
    """Wrap ``application``: an error before its response starts gets this API's error, not the server's page."""

    async def run(scope: dict[str, Any], receive: Any, send: Any) -> None:
        has_begun = False

        async def send_and_note(message: dict[str, Any]) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await application(scope, receive, send_and_note)
        except Exception:
            if has_begun:
                raise
            request_id = f"req_{secrets.token_hex(12)}"
            log.exception("request %s failed before it could be answered", request_id)
            response = (
                bare_status_response(500)
                if is_api_path(scope["path"])
                else HttpResponse(
                    f"The server failed. Its log has the details under request {request_id}.", content_type="text/plain"
                )
            )
            response.headers["X-Request-ID"] = request_id
            headers = [(name.lower().encode(), value.encode()) for name, value in response.items()]
            await send({"type": "http.response.start", "status": 500, "headers": headers})
            await send({"type": "http.response.body", "body": response.content})

    return run
