"""Django's ASGI handler, with what it takes for granted made sure of."""

from __future__ import annotations

import io
from typing import Any, BinaryIO

from django.core.handlers.asgi import ASGIHandler, ASGIRequest

from sessions_app.http_channel import EXTENSION, Received


class Request(ASGIRequest):
    """A request whose headers may be nonsense, and whose body's length is known."""

    def __init__(self, scope: dict[str, Any], body_file: BinaryIO) -> None:
        super().__init__(scope, body_file)
        if "CONTENT_LENGTH" not in self.META:
            # It came in chunks. Django takes a form without a length for an empty one.
            self.META["CONTENT_LENGTH"] = str(body_file.seek(0, io.SEEK_END))
            body_file.seek(0)

    def _set_content_type_params(self, meta: dict[str, Any]) -> None:
        # The parser of forms knows its name in small letters only.
        media_type, semicolon, parameters = meta.get("CONTENT_TYPE", "").partition(";")
        meta["CONTENT_TYPE"] = f"{media_type.strip().lower()}{semicolon}{parameters}"
        try:
            super()._set_content_type_params(meta)  # type: ignore[misc]
        except (LookupError, ValueError):
            # A parameter in an encoding that does not exist, or none at all (``name*=``). Of no known type, it is
            # refused where a type is asked for.
            self.content_type = ""
            self.content_params = {}


class Handler(ASGIHandler):
    """Takes a body where the server has put it, so that it is not copied, and not read for an address without any."""

    request_class = Request

    async def handle(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        received: Received | None = scope.get("extensions", {}).get(EXTENSION)
        await super().handle(scope, receive if received is None else _Receive(receive, received.body), send)

    async def read_body(self, receive: Any) -> Any:
        if not isinstance(receive, _Receive):
            return await super().read_body(receive)
        # The server's own message, which is empty; what comes next is that the client has gone.
        await receive()
        return receive.body


class _Receive:
    """The server's ``receive``, and the body that does not come through it."""

    def __init__(self, receive: Any, body: BinaryIO) -> None:
        self._receive = receive
        self.body = body

    async def __call__(self) -> dict[str, Any]:
        message: dict[str, Any] = await self._receive()
        return message
