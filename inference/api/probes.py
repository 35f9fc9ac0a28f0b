"""For machines that watch this server: ``/live``, ``/ready`` and ``/metrics``. ``/health`` is beside the models."""

from __future__ import annotations

import asyncio

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from ninja import Router

from inference.api.auth import failures
from inference.errors import Forbidden, Unauthorized
from inference.fleet import read_facts
from inference.readiness import describe_readiness
from sessions_app.client_address import client_address, client_block
from sessions_app.scraping import CONTENT_TYPE, exposition, is_allowed_address, is_right_token

#: for operators: what callers of the API need not know
router = Router(tags=["health"])

#: any of these is a proxy's
FORWARDED = ("X-Forwarded-For", "Forwarded", "X-Real-IP")


@router.api_operation(["GET", "HEAD"], "/live", auth=None, include_in_schema=False, url_name="live")
async def live(request: HttpRequest) -> HttpResponse:
    """The process answers. It looks at nothing else: a server whose database is away need not be started again."""
    return JsonResponse({"live": True}, headers={"Cache-Control": "no-store"})


@router.api_operation(["GET", "HEAD"], "/ready", auth=None, include_in_schema=False, url_name="ready")
async def ready(request: HttpRequest) -> HttpResponse:
    """200 when a request would be answered at once, else 503; either way with what was looked at, and why not."""
    found = await describe_readiness()
    return JsonResponse(found, status=200 if found["ready"] else 503, headers={"Cache-Control": "no-store"})


@router.api_operation(["GET", "HEAD"], "/metrics", auth=None, include_in_schema=False, url_name="metrics")
async def metrics(request: HttpRequest) -> HttpResponse:
    """For Prometheus. Who may read is said by ``METRICS_TOKEN`` or, without one, by the address."""
    _check_reader(request)
    facts = await read_facts()
    body = await asyncio.to_thread(exposition, facts)
    return HttpResponse(body, headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})


def _check_reader(request: HttpRequest) -> None:
    if settings.METRICS_TOKEN:
        given = request.headers.get("Authorization", "")
        if is_right_token(given):
            return
        if given:
            failures().count(client_block(request))
        raise Unauthorized(
            "The metrics need their own token: send METRICS_TOKEN as `Authorization: Bearer TOKEN`.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    # Through a proxy that is not trusted every client has the proxy's address, which may be this machine's.
    is_unknown = not settings.TRUSTED_PROXIES and any(name in request.headers for name in FORWARDED)
    if is_unknown or not is_allowed_address(client_address(request)):
        raise Forbidden("The metrics are read from this machine, from METRICS_ALLOWED_NETWORKS, or with METRICS_TOKEN.")
