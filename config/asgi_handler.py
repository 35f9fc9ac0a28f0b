"""Django's ASGI handler, for requests with malformed headers and for bodies that the server has already read."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

from django.core.handlers.asgi import ASGIHandler, ASGIRequest

from sessions_app.http_channel import EXTENSION, Received


class Request(ASGIRequest):
    """A request whose headers may be malformed, and whose body's length is known."""

    def __init__(self, scope: dict[str, Any], body_file: BinaryIO) -> None:
        super().__init__(scope, body_file)
        if "CONTENT_LENGTH" not in self.META:
            # The body came in chunks. Django treats a form without a length as empty.
            self.META["CONTENT_LENGTH"] = str(body_file.seek(0, io.SEEK_END))
            body_file.seek(0)

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        # Django's form parser recognises media types in lower case only.
        media_type, semicolon, parameters = meta.get("CONTENT_TYPE", "").partition(";")
        meta["CONTENT_TYPE"] = f"{media_type.strip().lower()}{semicolon}{parameters}"
        try:
            super()._set_content_type_params(meta)  # type: ignore[misc]
        except (LookupError, ValueError):
            # A parameter with an unknown encoding, or without one (``name*=``). The request then has no content type,
            # and is refused if a view requires one.
            self.content_type = ""
            self.content_params = {}


class Handler(ASGIHandler):
    """Uses the body that the web server has already read, instead of copying it through ``receive``."""

    request_class = Request

    async def handle(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        received: Received | None = scope.get("extensions", {}).get(EXTENSION)
        await super().handle(scope, receive if received is None else _Receive(receive, received.body), send)

    async def read_body(self, receive: Any) -> Any:
        if not isinstance(receive, _Receive):
            return await super().read_body(receive)
        # Skip the server's own message, which is empty; the next one is the client's disconnect.
        await receive()
        return receive.body


class _Receive:
    """The server's ``receive``, with the body, which is not passed through it."""

    def __init__(self, receive: Any, body: BinaryIO) -> None:
        self._receive = receive
        self.body = body

    async def __call__(self) -> dict[str, Any]:
        message: dict[str, Any] = await self._receive()
        return message
