"""Which ``Host`` headers are accepted: those in ``ALLOWED_HOSTS``, and any for probes.

Load balancers probe by address and over plain http, so ``/health``, ``/live`` and ``/ready`` are answered before Django
checks either. This middleware comes before those that call ``get_host``, which raises. Prometheus reads ``/metrics`` by
address too. Under a foreign name it needs a token: a web page can point its own name at this server (DNS rebinding) and
read with its visitor's address.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import cast

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import resolve
from django.views.defaults import bad_request

from inference.api.error_rendering import error_response
from inference.api.paths import METRICS, PROBES, is_api_path
from inference.errors import InvalidRequest
from sessions_app.middleware import Middleware, Steps
from sessions_app.scraping import is_called_by_address

#: Django's own logger name, so that existing filters and alarms keep working
log = logging.getLogger("django.security.DisallowedHost")

#: maximum characters of a rejected header in a log line
MAX_HOST_CHARS_LOGGED = 100


class HostMiddleware(Middleware):
    """Answer probes, refuse foreign names with one log line, and pass everything else on."""

    def around(self, request: HttpRequest) -> Steps:
        if _is_probe(request):
            return _answer_probe(request)
        if (refusal := _refusal(request)) is not None:
            return refusal
        return (yield)


def _is_probe(request: HttpRequest) -> bool:
    if request.method not in ("GET", "HEAD"):
        return False
    is_scrape = request.path_info == METRICS and (
        bool(settings.METRICS_TOKEN) or is_called_by_address(request.headers.get("Host", ""))
    )
    return is_scrape or request.path_info in PROBES


async def _answer_probe(request: HttpRequest) -> HttpResponseBase:
    request.resolver_match = found = resolve(request.path_info)
    return _unsniffed(await cast("Awaitable[HttpResponseBase]", found.func(request)))


def _refusal(request: HttpRequest) -> HttpResponseBase | None:
    try:
        request.get_host()
    except DisallowedHost as exc:
        log.warning("the host %.*r is not among ALLOWED_HOSTS", MAX_HOST_CHARS_LOGGED, request.headers.get("Host", ""))
        if not is_api_path(request.path_info):
            return _unsniffed(bad_request(request, exc))
        return _unsniffed(
            error_response(
                InvalidRequest(
                    "The Host header names a host that is not in this server's ALLOWED_HOSTS.",
                    param="Host",
                    code="host_not_allowed",
                )
            )
        )
    return None


def _unsniffed(response: HttpResponseBase) -> HttpResponseBase:
    """Add the header that ``SecurityMiddleware``, which is not reached here, puts on every other response."""
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    return response
