"""Where callbacks may go: to the hosts of ``OCR_CALLBACK_HOSTS``, by the rules that hold for the addresses of media."""

from __future__ import annotations

import httpx
from django.conf import settings

from inference.errors import InvalidMedia, InvalidRequest
from inference.media.destinations import Allowed, check_name, parse_url
from ocr.callbacks.models import MAX_URL_CHARS

FIELD = "callback_url"


class InvalidCallback(InvalidRequest):
    """No callback can go to this address."""

    code = "invalid_callback_url"


def sends_callbacks() -> bool:
    """Whether the operator has set both hosts and secrets. ``Allowed`` takes no hosts for any host."""
    return bool(settings.OCR_CALLBACK_HOSTS and settings.OCR_CALLBACK_SECRETS)


def callback_hosts() -> Allowed:
    return Allowed(
        settings.OCR_CALLBACK_HOSTS,
        "The host of the URL is not among those that this server calls back. Its operator lists them in "
        "OCR_CALLBACK_HOSTS.",
    )


def check_callback(text: str) -> httpx.URL:
    """The address as a URL. Raises ``InvalidCallback``. Names are looked up when the callback is sent."""
    if not sends_callbacks():
        raise InvalidCallback(
            "This server sends no callbacks. Its operator sets OCR_CALLBACK_HOSTS and OCR_CALLBACK_SECRETS.",
            param=FIELD,
        )
    if len(text) > MAX_URL_CHARS:
        raise InvalidCallback(f"The URL is longer than {MAX_URL_CHARS} characters.", param=FIELD)
    try:
        url = parse_url(text, FIELD)
        check_name(url.raw_host.decode("ascii").strip("[]"), FIELD, callback_hosts())
    except InvalidMedia as error:
        raise InvalidCallback(error.message, param=FIELD) from None
    return url
