"""Any refusal or failure as OpenAI's error object: by ninja's handlers, and by the middleware for what ninja misses."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from django.core.exceptions import RequestDataTooBig, TooManyFilesSent
from django.db import InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse, JsonResponse
from ninja import NinjaAPI
from ninja.errors import HttpError, ValidationError

from inference.errors import ApiError, InvalidRequest, NotFound, TooLarge, Unavailable

log = logging.getLogger(__name__)

#: what Django or ninja answer by a bare status
BY_STATUS: dict[int, tuple[str, str, str]] = {
    400: ("invalid_request_error", "invalid_request", "The request cannot be understood."),
    401: ("invalid_request_error", "invalid_api_key", "This server needs an API key."),
    403: ("invalid_request_error", "forbidden", "This is not allowed."),
    404: ("invalid_request_error", "not_found", "There is nothing at this address."),
    405: ("invalid_request_error", "method_not_allowed", "This address does not take that method."),
    413: ("invalid_request_error", "request_too_large", "The request is too large."),
    415: ("invalid_request_error", "unsupported_media_type", "This content type is not understood here."),
}
#: ninja names where a field was looked for before it names the field
_PLACES = {"body", "query", "path", "header", "form", "file", "payload"}


def error_response(error: ApiError) -> JsonResponse:
    return JsonResponse({"error": error.as_dict()}, status=error.status, headers=error.headers)


def bare_status_response(status: int) -> JsonResponse:
    """For an answer that says no more than its status."""
    fallback = ("server_error", "internal_error", "The server failed. The request id is in its log.")
    kind, code, message = BY_STATUS.get(status, BY_STATUS[400] if status < 500 else fallback)
    return JsonResponse({"error": {"message": message, "type": kind, "param": None, "code": code}}, status=status)


def as_api_error(exc: Exception) -> ApiError | None:
    """The refusal that a known exception stands for."""
    match exc:
        case ApiError():
            return exc
        case RequestDataTooBig() | TooManyFilesSent():
            return too_large()
        # Its other kinds say that a statement was wrong: that is ours, and trying again will not help.
        case OperationalError() | InterfaceError():
            log.warning("the database does not answer: %s", exc)
            return Unavailable(
                "The database does not answer. Try again in a moment.",
                code="database_unavailable",
                headers={"Retry-After": "5"},
            )
    return None


def too_large() -> TooLarge:
    from django.conf import settings

    return TooLarge(f"The request is larger than {settings.MAX_REQUEST_BYTES} bytes.")


def register_handlers(api: NinjaAPI) -> None:
    """Make the API answer every exception in the one shape."""

    @api.exception_handler(ValidationError)
    def invalid(request: HttpRequest, exc: ValidationError) -> HttpResponse:
        return error_response(_validation_error(exc.errors))

    @api.exception_handler(HttpError)
    def http_error(request: HttpRequest, exc: HttpError) -> HttpResponse:
        # Ninja says 400 to whatever its parser raises; the parser's own refusal is behind it.
        if isinstance(exc.__context__, Exception) and (refusal := as_api_error(exc.__context__)) is not None:
            return error_response(refusal)
        if exc.status_code == 400:
            return error_response(InvalidRequest("The body is not JSON.", code="invalid_json"))
        return bare_status_response(exc.status_code)

    @api.exception_handler(Exception)
    def anything(request: HttpRequest, exc: Exception) -> HttpResponse:
        if (error := as_api_error(exc)) is not None:
            return error_response(error)
        log.exception("%s %s failed", request.method, request.path, exc_info=exc)
        return bare_status_response(500)


def _validation_error(errors: Sequence[dict[str, Any]]) -> ApiError:
    """The first thing that is wrong, with the field's name as OpenAI writes it: ``messages[0].role``."""
    first = errors[0]
    places = list(first["loc"])
    while places and places[0] in _PLACES:
        places.pop(0)
    param = ""
    for place in places:
        param += f"[{place}]" if isinstance(place, int) else f".{place}" if param else str(place)
    if first["loc"] and first["loc"][0] == "path":
        return NotFound(f"There is nothing under {param}.", param=param or None)
    message = f"{param}: {first['msg']}" if param else str(first["msg"])
    return InvalidRequest(message, param=param or None)
