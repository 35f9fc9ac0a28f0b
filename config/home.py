"""The front page: the playground, or a page of links with the model's status."""

from __future__ import annotations

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from config.playground import playground
from inference.readiness import describe_health


async def home(request: HttpRequest) -> HttpResponse:
    """The playground; links and health as a page if ``PLAYGROUND`` is off."""
    if settings.PLAYGROUND:
        return await playground(request)
    # Read here, so that the template makes no database query on the event loop.
    request.user = await request.auser()
    return render(
        request,
        "home.html",
        {"health": await describe_health(), "base_url": f"{request.scheme}://{request.get_host()}"},
    )
