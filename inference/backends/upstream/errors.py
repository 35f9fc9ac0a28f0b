"""Converts failures of an upstream to this API's errors, without its key, its address or internal details."""

from __future__ import annotations

import logging
from typing import Any

import httpx
from django.conf import settings

from inference.backends.upstream.wire import NotReadable, parsed
from inference.engine.errors import EngineError
from inference.errors import ApiError
from sessions_app.storable import storable_text

log = logging.getLogger(__name__)

KEY_REFUSED = "The upstream server refuses this server's key."
#: statuses after which the same request may succeed later
TRANSIENT = {408, 425, 429, 502, 503, 504}
#: statuses of errors in the request itself
REQUEST_ERRORS = {400, 413, 415, 422}
#: maximum characters of each member of an upstream's error
MAX_CHARS = 500


class UpstreamError(ApiError, EngineError):
    """The upstream did not answer this request, and trying again would not help."""

    status = 502
    type = "server_error"
    code = "upstream_failed"

    @classmethod
    def request_error(cls, error: dict[str, str], *, status: int) -> UpstreamError:
        """The upstream's own description of what is wrong with the request."""
        return cls(
            error.get("message") or f"The upstream server refuses the request (HTTP {status}).",
            param=error.get("param"),
            code=error.get("code", "invalid_request"),
            status=status,
            error_type="invalid_request_error",
        )

    @classmethod
    def cannot_continue(cls, why: str) -> UpstreamError:
        return cls(
            f"The upstream server was lost in the middle of this answer, and {why}. "
            "Send the request again under a new session_id.",
            code="upstream_cannot_resume",
        )


class Interrupted(Exception):
    """This attempt has failed, but the next may succeed. ``reason`` may be shown to callers."""

    def __init__(self, reason: str, *, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        #: seconds to wait as requested by the upstream
        self.retry_after = retry_after

    def as_error(self) -> UpstreamError:
        message = f"The upstream server {self.reason}. Try again later."
        return UpstreamError(message, code="upstream_unavailable", status=503)


def interrupted_by(error: httpx.HTTPError) -> Interrupted:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return Interrupted("does not answer")
    if isinstance(error, httpx.TimeoutException):
        return Interrupted("sent nothing for too long")
    return Interrupted("closed the connection")


def refusal(response: httpx.Response, body: bytes) -> Exception:
    """The error for a response that is not an answer."""
    try:
        error = error_in(parsed(body))
    except NotReadable:
        error = {}
    status = response.status_code
    log.warning("the upstream answers %d: %s", status, _for_the_log(error))
    if status in (401, 403):
        return UpstreamError(KEY_REFUSED, code="upstream_refused")
    if status in TRANSIENT:
        words = "has too many requests" if status == httpx.codes.TOO_MANY_REQUESTS else "is not available"
        return Interrupted(f"{words} (HTTP {status})", retry_after=_seconds(response.headers.get("Retry-After")))
    if status in REQUEST_ERRORS:
        return UpstreamError.request_error(error, status=status)
    return UpstreamError(f"The upstream server failed (HTTP {status}). The log of the worker has the details.")


def failure(error: dict[str, str]) -> UpstreamError:
    """The error for an event of the stream that is an error."""
    log.warning("the upstream's stream ends with an error: %s", _for_the_log(error))
    if error.get("type") == "invalid_request_error" or error.get("status", "") in map(str, REQUEST_ERRORS):
        return UpstreamError.request_error(error, status=400)
    return UpstreamError("The upstream server failed while it answered. The log of the worker has the details.")


def error_in(told: Any) -> dict[str, str]:
    """The members of OpenAI's error object that are text, from wherever servers put it.

    A numeric code becomes ``status``. The texts are storable and short, and the upstream's key is replaced by
    asterisks.
    """
    error = told.get("error") or told if isinstance(told, dict) else {}
    if not isinstance(error, dict):
        error = {"message": error}
    members = {"message": error.get("message") or error.get("detail")}
    members |= {name: error.get(name) for name in ("type", "param", "code")}
    found = {name: _fit(value) for name, value in members.items() if isinstance(value, str) and value}
    status = error.get("code")
    return found | ({"status": str(status)} if isinstance(status, int) and status < 1000 else {})


def _fit(text: str) -> str:
    text = storable_text(text)
    if settings.UPSTREAM_API_KEY:
        text = text.replace(settings.UPSTREAM_API_KEY, "***")
    return text[:MAX_CHARS]


def _for_the_log(error: dict[str, str]) -> str:
    """The message on one line, with special characters escaped."""
    return ascii(error["message"]) if "message" in error else "no message"


def _seconds(retry_after: str | None) -> float:
    try:
        return max(0.0, float(retry_after or 0))
    except ValueError:
        return 0.0  # a date
