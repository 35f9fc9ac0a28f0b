"""Endpoints for monitoring: ``/live``, ``/ready`` and ``/metrics``. ``/health`` is in ``model_list``."""

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

#: endpoints for operators, not for callers of the API
router = Router(tags=["health"])

#: headers that only a proxy sends
FORWARDED = ("X-Forwarded-For", "Forwarded", "X-Real-IP")


@router.api_operation(["GET", "HEAD"], "/live", auth=None, include_in_schema=False, url_name="live")
async def live(request: HttpRequest) -> HttpResponse:
    """The process answers. Nothing else is checked: a server whose database is unavailable need not be restarted."""
    return JsonResponse({"live": True}, headers={"Cache-Control": "no-store"})


@router.api_operation(["GET", "HEAD"], "/ready", auth=None, include_in_schema=False, url_name="ready")
async def ready(request: HttpRequest) -> HttpResponse:
    """200 if a request would be answered at once, otherwise 503; in both cases with each check and its reason."""
    found = await describe_readiness()
    return JsonResponse(found, status=200 if found["ready"] else 503, headers={"Cache-Control": "no-store"})


@router.api_operation(["GET", "HEAD"], "/metrics", auth=None, include_in_schema=False, url_name="metrics")
async def metrics(request: HttpRequest) -> HttpResponse:
    """For Prometheus. Access needs ``METRICS_TOKEN`` or, if there is none, an allowed address."""
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
            "/metrics needs its own token: send METRICS_TOKEN as `Authorization: Bearer TOKEN`.",
            headers={"WWW-Authenticate": "Bearer"},
        )
    # Behind an untrusted proxy every client has the proxy's address, which may be that of this machine.
    is_unknown = not settings.TRUSTED_PROXIES and any(name in request.headers for name in FORWARDED)
    if is_unknown or not is_allowed_address(client_address(request)):
        raise Forbidden("/metrics may be read from this machine, from METRICS_ALLOWED_NETWORKS, or with METRICS_TOKEN.")
