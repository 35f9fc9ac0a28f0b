"""Refusals and failures that a client gets: the root of one hierarchy, which ``inference.errors`` continues.

The root is in this layer because a failed session stores its error in the log, and a reader of the log raises it again.
The members are those of OpenAI's error object; the API layer decides how an error is sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.conf import settings

#: seconds, for ``Retry-After``: when a client may try again after a refusal because the server is busy
BUSY_RETRY_AFTER = "5"


class ApiError(Exception):
    """A refusal or a failure. A class sets the defaults; an argument overrides them for one error."""

    #: HTTP status
    status = 400
    type = "invalid_request_error"
    code: str | None = None
    #: sending the same request again may help, and cannot start a second generation beside a running one
    may_retry = False

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        status: int | None = None,
        error_type: str | None = None,
        may_retry: bool | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.headers = dict(headers or {})
        self.code = self.code if code is None else code
        self.status = self.status if status is None else status
        self.type = self.type if error_type is None else error_type
        self.may_retry = self.may_retry if may_retry is None else may_retry

    def as_dict(self) -> dict[str, Any]:
        """The members of the ``error`` object, without the envelope."""
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}

    @staticmethod
    def from_dict(error: Mapping[str, Any], *, status: int, headers: Mapping[str, str] | None = None) -> ApiError:
        """The error that a failed session has stored: what ``as_dict`` gave, and the status beside it.

        The request may be sent again after 429 and 503, which mean that it was not started. After any other failure it
        would run, and fail, once more.
        """
        return ApiError(
            str(error.get("message") or "The generation failed."),
            param=error.get("param"),
            code=error.get("code") or "generation_failed",
            status=status,
            error_type=error.get("type") or "server_error",
            may_retry=status in (429, 503),
            headers=headers,
        )


class Unavailable(ApiError):
    """The server cannot do this now; the same request may succeed later."""

    status = 503
    type = "server_error"
    code = "unavailable"
    may_retry = True


class OverShare(ApiError):
    """The caller holds its share of what all callers use together; it may come back when some of that has ended."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"
    may_retry = True


class SessionNotFound(ApiError):
    """There is no session of this id, or none that the caller may see."""

    status = 404
    code = "session_not_found"

    def __init__(self, session_id: str, *, param: str | None = "session_id") -> None:
        super().__init__(f"There is no session {session_id}.", param=param)


class SessionConflict(ApiError):
    """The id belongs to a session that was opened with a different request."""

    status = 409
    code = "session_conflict"

    def __init__(self, session_id: str) -> None:
        super().__init__(
            f"The session {session_id} was opened with a different request. To read its answer, send that request "
            "again. For any other, such as the next turn of a conversation, use another "
            f"{settings.SESSION_ID_FIELD} or Idempotency-Key, or none: it names one answer, not a conversation. (Where "
            "clients send a conversation's id by this name, the server's SESSION_ID_FIELD can be another.)",
            param=settings.SESSION_ID_FIELD,
        )


class KeyConflict(ApiError):
    """The ``Idempotency-Key`` was sent before, with a different request."""

    status = 409
    code = "session_conflict"

    def __init__(self) -> None:
        super().__init__(
            "This Idempotency-Key was sent with a different request. Use another key, or none.", param="Idempotency-Key"
        )


class SessionExpired(ApiError):
    """The session has ended, and its chunks have been removed."""

    status = 410
    code = "session_expired"

    def __init__(self, session_id: str, *, param: str | None = "session_id") -> None:
        super().__init__(
            f"The stream of session {session_id} has expired. Send the request again under a new session_id.",
            param=param,
        )


class TextRemoved(SessionExpired):
    """The session was private, and its text went when its result was stored."""

    def __init__(self, session_id: str, *, param: str | None = "session_id") -> None:
        super().__init__(session_id, param=param)
        self.message = f"The text of session {session_id} was removed with its reading. The result is stored elsewhere."
        self.args = (self.message,)


class QueueFull(Unavailable):
    """``MAX_QUEUED_SESSIONS`` are queued."""

    code = "queue_full"

    def __init__(self) -> None:
        super().__init__(
            f"{settings.MAX_QUEUED_SESSIONS} requests are already waiting. Try again in a moment.",
            headers={"Retry-After": BUSY_RETRY_AFTER},
        )


class CallerQueueFull(OverShare):
    """This caller's share of the queue is used up; ``queued`` of its sessions are in it."""

    def __init__(self, queued: int) -> None:
        super().__init__(
            f"{queued} of your requests are already waiting, which is your share of the queue. "
            "Try again when some of them have ended.",
            headers={"Retry-After": BUSY_RETRY_AFTER},
        )


class WorkerLost(ApiError):
    """The leases of ``SESSION_MAX_ATTEMPTS`` workers have expired while they ran the session."""

    status = 500
    type = "server_error"
    code = "worker_lost"

    def __init__(self, attempts: int) -> None:
        super().__init__(
            f"The worker was lost {attempts} times while it ran this request. It will not be retried.",
        )
