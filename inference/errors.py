"""Refusals and failures of the API: the hierarchy of ``sessions_app.errors``, continued."""

from __future__ import annotations

from collections.abc import Sequence

from sessions_app.errors import ApiError as ApiError
from sessions_app.errors import OverShare as OverShare
from sessions_app.errors import Unavailable as Unavailable


class InvalidRequest(ApiError):
    """The request is invalid; sending it again unchanged will not help."""

    code = "invalid_request"


class InvalidMedia(InvalidRequest):
    """An image or video part that cannot be fetched, decoded or understood."""

    code = "invalid_media"


class UnsupportedParameter(InvalidRequest):
    """A known OpenAI parameter that this server does not honour, refused rather than ignored."""

    code = "unsupported_parameter"


class Unauthorized(ApiError):
    """No API key, or one that is not among ``API_KEYS``."""

    status = 401
    code = "invalid_api_key"


class Forbidden(ApiError):
    """The caller may not do this, whatever key it has."""

    status = 403
    code = "forbidden"


class NotFound(ApiError):
    """No such thing here, or none that the caller may see."""

    status = 404
    code = "not_found"


class TooLarge(ApiError):
    """The body or a part of it is over a documented limit."""

    status = 413
    code = "request_too_large"


class TooManyRequests(ApiError):
    """The caller asks more than its share; others are not affected."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class RequestTooNew(Unavailable):
    """A newer version of the server stored the request, and the worker that claimed it does not know all of it."""

    code = "worker_outdated"

    def __init__(self, *, version: object, known: int, unknown_fields: Sequence[str]) -> None:
        fields = f", with {', '.join(unknown_fields)}" if unknown_fields else ""
        super().__init__(
            f"The worker that took this request is older than the server that stored it: it supports requests up to "
            f"version {known}, but this one has version {version}{fields}. Send it again when the workers are updated."
        )


class TimedOut(ApiError):
    """The time limit of the wait is over; the work itself continues."""

    status = 504
    type = "server_error"
    code = "timeout"


class AnswerUnreadable(ApiError):
    """What is stored of the answer cannot be sent; asking for it again will not help."""

    status = 500
    type = "server_error"
    code = "answer_unreadable"

    def __init__(self, session_id: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(
            f"A part of the answer of session {session_id} is stored in a form that cannot be sent. "
            "Send the request again under a new session_id.",
            headers=headers,
        )


class GenerationFailed(ApiError):
    """The generation of a session failed."""

    status = 500
    type = "server_error"
    code = "generation_failed"
