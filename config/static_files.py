"""Static files by WhiteNoise, without a thread for every request.

WhiteNoise's middleware is synchronous, and one synchronous middleware makes Django run the rest of the chain in a
thread that waits for the async view. Here the look-up, in a dictionary, runs on the loop. Only reading a file that was
found goes to a thread.
"""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware

from sessions_app.middleware import Handler, Middleware, Steps


class AsyncWhiteNoiseMiddleware(Middleware, WhiteNoiseMiddleware):
    """WhiteNoise for the synchronous and the asynchronous middleware chain."""

    def __init__(self, get_response: Handler) -> None:
        WhiteNoiseMiddleware.__init__(self, get_response)
        Middleware.__init__(self, get_response)

    def around(self, request: HttpRequest) -> Steps:
        static_file = self._find(request.path_info)
        if static_file is not None:
            return sync_to_async(self._read, thread_sensitive=False)(static_file, request)
        return (yield)

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
