"""The front page: where everything is, and whether the model is there."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from inference.readiness import describe_health


async def home(request: HttpRequest) -> HttpResponse:
    """Links and health, for a person."""
    # Read here, so that the template does not ask the database from the event loop.
    request.user = await request.auser()
    return render(
        request,
        "home.html",
        {"health": await describe_health(), "base_url": f"{request.scheme}://{request.get_host()}"},
    )
