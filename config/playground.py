"""The playground: a chat page that talks to the server's API as any client would.

The page is the same for all users and contains no user data: chats are kept in the browser, answers come from the API.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.templatetags.static import static
from django.urls import reverse
from django.utils.translation import gettext

from config.page_headers import policy_line
from config.playground_texts import script_texts
from ocr.reading.prompt import INSTRUCTION

MODULES = sorted(path.name for path in (settings.BASE_DIR / "config/static/playground").glob("*.js"))
READER = settings.BASE_DIR / "models/ktp-reader"
#: placeholder for the session's id in an address
SESSION = "SESSION"
#: Videos are shown from the browser's memory before they are sent. Scripts may not write HTML, so no answer can.
POLICY = settings.SECURE_CSP | {
    "media-src": [*settings.SECURE_CSP["media-src"], "blob:"],
    "require-trusted-types-for": ["'script'"],
    "trusted-types": ["'none'"],
}


async def playground(request: HttpRequest) -> HttpResponse:
    """The page. Its only database query is for the logged-in user."""
    # Read here, so that the template makes no database query on the event loop.
    request.user = await request.auser()
    cards = specimen_cards()
    context = {
        "model": settings.SERVED_MODEL_NAME,
        "only_reads_cards": only_reads_cards(),
        "cards": cards,
        "modules": [f"playground/{name}" for name in MODULES],
        "limits": {"max_tokens": settings.MAX_TOKENS_LIMIT},
        "defaults": {"max_tokens": settings.MAX_TOKENS, "temperature": settings.TEMPERATURE},
        "config": script_config(cards),
        "texts": script_texts(),
    }
    response = render(request, "playground.html", context)
    response.headers["Content-Security-Policy"] = policy_line(POLICY)
    return response


def script_config(cards: list[dict[str, str]]) -> dict[str, Any]:
    """What the scripts of the page must know of this server."""
    return {
        "model": settings.SERVED_MODEL_NAME,
        "needsKey": bool(settings.API_KEYS),
        "sessionIdField": settings.SESSION_ID_FIELD,
        "keepaliveSeconds": settings.KEEPALIVE_SECONDS,
        "addresses": {
            "chat": reverse("api:chat"),
            "events": reverse("api:events", args=[SESSION]),
            "cancel": reverse("api:cancel", args=[SESSION]),
            "models": reverse("api:models"),
            "health": reverse("api:health"),
        },
        "limits": {
            "images": settings.MAX_IMAGES_PER_REQUEST,
            "videos": settings.MAX_VIDEOS_PER_REQUEST,
            "imageBytes": settings.MAX_IMAGE_BYTES,
            "videoBytes": settings.MAX_VIDEO_BYTES,
            "requestBytes": settings.MAX_REQUEST_BYTES,
        },
        "cards": cards,
        # The same prompt and parameters as POST /ktp-ocr/.
        "reading": {"prompt": INSTRUCTION, "parameters": {"temperature": 0, "max_tokens": settings.OCR_MAX_TOKENS}},
    }


def specimen_cards() -> list[dict[str, str]]:
    """The cards to try; none with an upstream, whose model may not accept images."""
    if settings.INFERENCE_ENGINE != "local":
        return []
    cards = {
        "flat": (gettext("A foreigner's card, lying flat"), gettext("Flat")),
        "dim": (gettext("A card in bad light"), gettext("Dim")),
        "tilted": (gettext("A card that was photographed at an angle"), gettext("At an angle")),
    }
    return [
        {"file": f"{name}.jpg", "url": static(f"playground/cards/{name}.jpg"), "title": title, "label": label}
        for name, (title, label) in cards.items()
    ]


def only_reads_cards() -> bool:
    """Whether the served model is the small reader in the repository."""
    return settings.INFERENCE_ENGINE == "local" and (settings.BASE_DIR / Path(settings.MODEL_REPO_ID)) == READER
