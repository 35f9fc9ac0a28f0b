"""Renders every refusal or failure as OpenAI's error object, in ninja's handlers and in the middleware."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection, Sequence
from typing import Any

from django.core.exceptions import (
    BadRequest,
    RequestDataTooBig,
    SuspiciousOperation,
    TooManyFieldsSent,
    TooManyFilesSent,
)
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError

from inference.errors import ApiError, InvalidRequest, NotFound, TooLarge, Unavailable
from sessions_app.errors import BUSY_RETRY_AFTER
from sessions_app.traceback_scrubbing import forget_values

log = logging.getLogger(__name__)

#: errors for responses of Django or ninja that are a bare status
BY_STATUS: dict[int, tuple[str, str, str]] = {
    400: ("invalid_request_error", "invalid_request", "The request cannot be understood."),
    401: ("invalid_request_error", "invalid_api_key", "This server needs an API key."),
    403: ("invalid_request_error", "forbidden", "This is not allowed."),
    404: ("invalid_request_error", "not_found", "There is nothing at this address."),
    405: ("invalid_request_error", "method_not_allowed", "This address does not take that method."),
    413: ("invalid_request_error", "request_too_large", "The request is too large."),
    415: ("invalid_request_error", "unsupported_media_type", "This content type is not understood here."),
}
#: places that ninja puts before the name of a field
_PLACES = {"body", "query", "path", "header", "form", "file", "payload"}


def error_response(error: ApiError) -> JsonResponse:
    headers = error.headers if error.may_retry else {**_dont_retry(error.status), **error.headers}
    return JsonResponse({"error": error.as_dict()}, status=error.status, headers=headers)


def _dont_retry(status: int) -> dict[str, str]:
    """OpenAI's SDKs retry after these statuses, twice, unless this header forbids it."""
    return {"X-Should-Retry": "false"} if status in (408, 409, 429) or status >= 500 else {}


def bare_status_response(status: int) -> JsonResponse:
    """The error response for a response that is a bare status."""
    fallback = ("server_error", "internal_error", "The server failed. The request id is in its log.")
    kind, code, message = BY_STATUS.get(status, BY_STATUS[400] if status < 500 else fallback)
    return error_response(ApiError(message, code=code, status=status, error_type=kind))


def as_api_error(exc: Exception) -> ApiError | None:
    """The ``ApiError`` for a known exception; None for any other."""
    match exc:
        case ApiError():
            return exc
        case RequestDataTooBig():
            return too_large()
        case TooManyFieldsSent() | TooManyFilesSent():
            return InvalidRequest("The request has too many form fields, files or query parameters.")
        # Django's own checks of a request: a form without a boundary, a client that has disconnected.
        case SuspiciousOperation() | BadRequest() | MultiPartParserError() | UnreadablePostError():
            return InvalidRequest(f"The request could not be read: {exc}")
        # Django's other database errors mean a bug in a statement: a retry would not help.
        case OperationalError() | InterfaceError():
            log.warning("the database is not reachable: %s", exc)
            return Unavailable(
                "The database is not responding. Try again in a moment.",
                code="database_unavailable",
                headers={"Retry-After": BUSY_RETRY_AFTER},
            )
    return None


def too_large() -> TooLarge:
    from django.conf import settings

    return TooLarge(f"The request is larger than {settings.MAX_REQUEST_BYTES} bytes.")


def register_handlers(api: NinjaAPI) -> None:
    """Make the API answer every exception with the same error object."""

    @api.exception_handler(ValidationError)
    def invalid(request: HttpRequest, exc: ValidationError) -> HttpResponse:
        return error_response(validation_error(exc.errors))

    @api.exception_handler(HttpError)
    def http_error(request: HttpRequest, exc: HttpError) -> HttpResponse:
        return bare_status_response(exc.status_code)

    @api.exception_handler(Exception)
    def anything(request: HttpRequest, exc: Exception) -> HttpResponse:
        if (error := as_api_error(exc)) is not None:
            return error_response(error)
        forget_values(exc)
        log.exception("%s %s failed", request.method, request.path, exc_info=exc)
        return bare_status_response(500)


def validation_error(errors: Sequence[Any], *, names: Collection[str] | None = None) -> ApiError:
    """The first thing that is wrong, with the field's name as OpenAI writes it: ``messages[0].role``.

    If ``names`` is given, only these strings of a location count: pydantic also includes the branch of a union, as in
    ``stop.str``, and no request has such a field. Of several branches, the one that was parsed furthest is reported.
    """
    first = errors[0]
    param = _param(first["loc"], names)
    for error in errors[1:]:
        if len(other := _param(error["loc"], names)) > len(param) and other.startswith(param):
            first, param = error, other
    if first["loc"] and first["loc"][0] == "path":
        return NotFound(f"Nothing exists at {param}.", param=param or None)
    message = f"{param}: {first['msg']}" if param else str(first["msg"])
    return InvalidRequest(message, param=param or None)


def _param(places: Sequence[str | int], names: Collection[str] | None) -> str:
    param = ""
    for place in itertools.dropwhile(_PLACES.__contains__, places):
        if isinstance(place, int):
            param += f"[{place}]"
        elif names is None or place in names:
            param += f".{place}" if param else place
    return param
