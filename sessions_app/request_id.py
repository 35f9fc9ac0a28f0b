"""A request id in every response and log line: the client's ``X-Request-ID``, or a generated one."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import re
import secrets
import time
from collections.abc import Iterator

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from sessions_app.log_lines import cut
from sessions_app.metrics import count_request
from sessions_app.middleware import Middleware, Steps

_current: contextvars.ContextVar[str] = contextvars.ContextVar("request_id", default="-")
# What a caller sends goes into logs and a header: nothing but harmless characters, and not without end.
_ACCEPTABLE = re.compile(r"[A-Za-z0-9._:-]{1,100}")

#: longer methods and paths are cut, so that the rest of the line stays in the log
MAX_METHOD_CHARS = 16
MAX_PATH_CHARS = 300

access_log = logging.getLogger("sambung.access")


def current_request_id() -> str:
    """The id of the request that this code runs for, or ``-`` outside of one."""
    return _current.get()


@contextlib.contextmanager
def request_id_scope(request_id: str) -> Iterator[None]:
    """Log lines written inside carry this id: for work done later, elsewhere, for a request."""
    token = _current.set(request_id or "-")
    try:
        yield
    finally:
        _current.reset(token)


class RequestIdFilter(logging.Filter):
    """Adds ``request_id`` to every record."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = _current.get()
        return True


class RequestIdMiddleware(Middleware):
    """Outermost: it sees every response, writes the id into it, and one access line for it."""

    def around(self, request: HttpRequest) -> Steps:
        with request_id_scope(_accept(request)):
            started = time.monotonic()
            response = yield
            return _finish(request, response, started)


def _accept(request: HttpRequest) -> str:
    given = request.headers.get("X-Request-ID", "")
    return given if _ACCEPTABLE.fullmatch(given) else f"req_{secrets.token_hex(12)}"


def _finish(request: HttpRequest, response: HttpResponseBase, started: float) -> HttpResponseBase:
    response.headers["X-Request-ID"] = current_request_id()
    count_request(request, response.status_code)
    took = (time.monotonic() - started) * 1000
    level = logging.WARNING if response.status_code >= 500 else logging.INFO
    # The path only: a query string may hold a cursor or a key.
    method, path = cut(request.method or "", MAX_METHOD_CHARS), cut(request.path, MAX_PATH_CHARS)
    about = {"session": response.headers["X-Session-ID"]} if "X-Session-ID" in response.headers else {}
    access_log.log(level, "%s %s %d %.0f ms", method, path, response.status_code, took, extra=about)
    # Django's own mark: outside of this middleware it would say every 4xx and 5xx again, and without the id.
    response._has_been_logged = True  # type: ignore[attr-defined]
    return response
