"""Static files by WhiteNoise, in a form that does not tie every request to a thread.

WhiteNoise's middleware is synchronous. One synchronous middleware makes Django run the whole chain below it in a
thread that waits for the async view, a thread for every request that waits for an answer. Here the lookup happens on
the loop (a dictionary) and only the reading of a file that was found goes to a thread.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, cast

from asgiref.sync import iscoroutinefunction, markcoroutinefunction, sync_to_async
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from whitenoise.middleware import WhiteNoiseMiddleware


class AsyncWhiteNoiseMiddleware(WhiteNoiseMiddleware):
    """WhiteNoise for ASGI and for Django's synchronous test client alike."""

    async_capable = True
    sync_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        super().__init__(get_response)
        self._is_async = iscoroutinefunction(get_response)
        if self._is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self._is_async:
            return self._acall(request)
        return cast("HttpResponseBase", super().__call__(request))

    async def _acall(self, request: HttpRequest) -> HttpResponseBase:
        static_file = self._find(request.path_info)
        if static_file is None:
            return cast("HttpResponseBase", await self.get_response(request))
        return await sync_to_async(self._read, thread_sensitive=False)(static_file, request)

    def _find(self, path: str) -> Any:
        if self.autorefresh:
            return self.find_file(path) if path.startswith(self.static_prefix or "/") else None
        return self.files.get(path)

    def _read(self, static_file: Any, request: HttpRequest) -> HttpResponse:
        streamed = self.serve(static_file, request)
        body = b"".join(streamed.streaming_content) if streamed.streaming else streamed.content
        response = HttpResponse(body, status=streamed.status_code)
        for name, value in streamed.items():
            response.headers[name] = value
        streamed.close()
        return response
