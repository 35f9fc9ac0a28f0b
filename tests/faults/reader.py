"""A client that holds a stream through whatever happens: when it breaks, it comes back with the last id it saw."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx
from httpx_sse import ServerSentEvent

from tests.live.events import ALL_EVENTS, events_of, indexes_of, text_of

COME_BACK_SECONDS = 0.2
GIVE_UP_SECONDS = 90.0


class Reader(threading.Thread):
    """Reads one session to its terminal event; ``events`` is what a user would have seen."""

    def __init__(self, base_urls: list[str], body: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self.events: list[ServerSentEvent] = []
        self.came_back = 0
        self._base_urls = base_urls
        self._body = body
        self._gave_up = time.monotonic() + GIVE_UP_SECONDS
        self.start()

    def run(self) -> None:
        while not self.is_done() and time.monotonic() < self._gave_up:
            base_url = self._base_urls[self.came_back % len(self._base_urls)]
            try:
                self._read(base_url)
            except httpx.TransportError:
                pass
            if not self.is_done():
                self.came_back += 1
                time.sleep(COME_BACK_SECONDS)

    def is_done(self) -> bool:
        return bool(self.events) and (self.events[-1].data == "[DONE]" or '"error"' in self.events[-1].data[:10])

    def wait(self) -> list[ServerSentEvent]:
        """The whole stream, checked to be without gap and repetition."""
        self.join(GIVE_UP_SECONDS + 10)
        assert self.is_done(), f"{len(self.events)} events, came back {self.came_back} times"
        assert indexes_of(self.events) == list(range(len(self.events)))
        return self.events

    def text(self) -> str:
        return text_of(self.wait())

    def _read(self, base_url: str) -> None:
        # A session that was not opened yet is asked for again, under its id: it is opened at most once.
        resumed = bool(self.events)
        body = ALL_EVENTS if resumed else self._body
        headers = {"Last-Event-ID": self.events[-1].id} if resumed else {}
        with httpx.stream(
            "POST", f"{base_url}/v1/chat/completions", json=body, headers=headers, timeout=GIVE_UP_SECONDS
        ) as response:
            if response.status_code == httpx.codes.OK:
                for event in events_of(response):
                    self.events.append(event)
