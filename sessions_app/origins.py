"""Whether a page that calls this server is a page of this server: by the ``Origin`` that its browser names."""

from __future__ import annotations

import io
import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import SplitResult, urlsplit

from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.core.handlers.asgi import ASGIRequest
from django.utils.http import is_same_domain

log = logging.getLogger(__name__)

DEFAULT_PORTS = {"http": 80, "https": 443}
#: characters of an untrusted header that are written to a log line
MAX_ORIGIN_CHARS_LOGGED = 100

Application = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


def is_own_origin(origin: str, *, host: str, is_secure: bool) -> bool:
    """Whether ``origin`` is that of the ``Host`` which was asked, or among ``CSRF_TRUSTED_ORIGINS``.

    Behind a proxy that ends TLS the server may not know that it is reached over https. So an https page of the same
    host is taken in any case, and an http page only where the request did not come over https.
    """
    try:
        page, asked = urlsplit(origin), urlsplit(f"//{host}")
        ports = (page.port, asked.port)
    except ValueError:
        return False
    default = DEFAULT_PORTS.get(page.scheme)
    if default is None or not page.hostname:
        return False
    if any(_is_trusted(page, urlsplit(trusted)) for trusted in settings.CSRF_TRUSTED_ORIGINS):
        return True
    if is_secure and page.scheme != "https":
        return False
    return (page.hostname, ports[0] or default) == (asked.hostname, ports[1] or default)


def _is_trusted(page: SplitResult, trusted: SplitResult) -> bool:
    """As Django reads the setting: ``https://*.example.org`` means all hosts under the name."""
    return page.scheme == trusted.scheme and (
        page.netloc == trusted.netloc
        or ("*" in trusted.netloc and is_same_domain(page.netloc, trusted.netloc.lstrip("*")))
    )


class OwnPagesOnly:
    """An ASGI application for WebSockets, opened by this server's own pages and by nothing else.

    A browser sends cookies along with any page's handshake, and CORS rules do not apply to it.
    """

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if _is_of_own_page(scope):
            await self._application(scope, receive, send)
        else:
            await WebsocketDenier()(scope, receive, send)


def _is_of_own_page(scope: dict[str, Any]) -> bool:
    origins = [value.decode("latin-1") for name, value in scope.get("headers", []) if name == b"origin"]
    handshake = ASGIRequest(
        {**scope, "method": "GET", "scheme": "https" if scope.get("scheme") == "wss" else "http"}, io.BytesIO()
    )
    try:
        host = handshake.get_host()
    except DisallowedHost:
        return False
    is_own = len(origins) == 1 and is_own_origin(origins[0], host=host, is_secure=handshake.is_secure())
    if not is_own:
        log.warning(
            "a WebSocket of %.*r was refused: it is not of the host %s, nor among CSRF_TRUSTED_ORIGINS",
            MAX_ORIGIN_CHARS_LOGGED,
            ", ".join(origins),
            host,
        )
    return is_own
