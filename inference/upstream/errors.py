"""What an upstream can do to a request, in this API's errors. Its key, its address and its insides stay here."""

from __future__ import annotations

import json
import logging
from typing import Any

import httpx
from django.conf import settings

from inference.engine.errors import EngineError
from inference.errors import ApiError

log = logging.getLogger(__name__)

KEY_REFUSED = "The upstream server refuses this server's key."
#: the same request may do better in a moment
TRANSIENT = {408, 425, 429, 502, 503, 504}
#: what is wrong with the request itself
OF_THE_REQUEST = {400, 413, 415, 422}


class UpstreamError(ApiError, EngineError):
    """The upstream did not answer this request, and trying again would not help."""

    status = 502
    type = "server_error"
    code = "upstream_failed"

    @classmethod
    def of_the_request(cls, error: dict[str, Any], *, status: int) -> UpstreamError:
        """What the upstream says is wrong with the request, as it says it."""
        code = error.get("code")
        refusal = cls(
            str(error.get("message") or "The upstream server refuses the request."),
            param=error["param"] if isinstance(error.get("param"), str) else None,
            code=code if isinstance(code, str) else "invalid_request",
        )
        refusal.status = status
        refusal.type = "invalid_request_error"
        return refusal

    @classmethod
    def cannot_go_on(cls, why: str) -> UpstreamError:
        return cls(
            f"The upstream server was lost in the middle of this answer, and {why}. "
            "Send the request again under a new session_id.",
            code="upstream_cannot_resume",
        )


class Interrupted(Exception):
    """This try has failed, and the next may not. ``reason`` is fit for callers to read."""

    def __init__(self, reason: str, *, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.reason = reason
        #: seconds that the upstream asks for
        self.retry_after = retry_after

    def as_error(self) -> UpstreamError:
        error = UpstreamError(f"The upstream server {self.reason}. Try again later.", code="upstream_unavailable")
        error.status = 503
        return error


def interrupted_by(error: httpx.HTTPError) -> Interrupted:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return Interrupted("does not answer")
    if isinstance(error, httpx.TimeoutException):
        return Interrupted("has said nothing for too long")
    return Interrupted("broke the connection off")


def refusal(response: httpx.Response) -> Exception:
    """Why the upstream did not begin to answer; the body has been read."""
    error = error_in(response.content)
    status = response.status_code
    log.warning("the upstream answers %d: %s", status, error.get("message", "no message"))
    if status in (401, 403):
        return UpstreamError(KEY_REFUSED, code="upstream_refused")
    if status in TRANSIENT:
        words = "has too many requests" if status == httpx.codes.TOO_MANY_REQUESTS else "is not available"
        return Interrupted(f"{words} (HTTP {status})", retry_after=_seconds(response.headers.get("Retry-After")))
    if status in OF_THE_REQUEST:
        return UpstreamError.of_the_request(error, status=status)
    return UpstreamError(f"The upstream server failed (HTTP {status}). The log of the worker has the details.")


def failure(error: dict[str, Any]) -> UpstreamError:
    """An error that came as an event of the stream."""
    log.warning("the upstream's stream ends with an error: %s", error.get("message", "no message"))
    code = error.get("code")
    if error.get("type") == "invalid_request_error" or code in OF_THE_REQUEST:
        return UpstreamError.of_the_request(error, status=400)
    return UpstreamError("The upstream server failed while it answered. The log of the worker has the details.")


def error_in(body: bytes) -> dict[str, Any]:
    """The members of OpenAI's error object, from wherever the servers put it; the key that was sent is blotted out."""
    text = body.decode(errors="replace")
    if settings.UPSTREAM_API_KEY:
        text = text.replace(settings.UPSTREAM_API_KEY, "***")
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    if not isinstance(found, dict):
        return {}
    error = found.get("error", found)
    return error if isinstance(error, dict) else {"message": str(error)}


def _seconds(retry_after: str | None) -> float:
    try:
        return max(0.0, float(retry_after or 0))
    except ValueError:
        return 0.0  # a date
