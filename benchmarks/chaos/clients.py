"""The questions, and the clients that read the answers: they disconnect, resume, and count the events that they saw."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx

from tests.faults.reader import Reader
from tests.live.events import ALL_EVENTS, events_of, long_question
from tests.media_samples import image_bytes

QUESTIONS = 24
TICK_SECONDS = 0.02
#: seconds without even a keep-alive after which a stream counts as hanging, and its client reconnects
SILENCE_SECONDS = 15.0


class Client(Reader):
    """Reads one session to its end, from any web process; drops the stream now and then, and comes back."""

    def __init__(self, http: httpx.Client, urls: list[str], body: dict[str, Any], drops: random.Random | None) -> None:
        self.http = http
        self.drops = drops
        #: the streams it left by itself; ``came_back`` counts those that broke too
        self.left = 0
        #: answers that are neither the stream nor "come again"
        self.refusals: list[str] = []
        self.worst_pause = 0.0
        self.paused_after = 0.0
        self._heard_at = time.monotonic()
        self.given_up = threading.Event()
        super().__init__(urls, body)

    @property
    def session_id(self) -> str:
        return str(self._body["session_id"])

    def run(self) -> None:
        while not self.is_done() and not self.given_up.is_set():
            with contextlib.suppress(httpx.TransportError):
                self._read(self.drops.choice(self._base_urls) if self.drops else self._base_urls[0])
            if not self.is_done():
                self.came_back += 1
                self.given_up.wait(self.drops.uniform(0.05, 0.6) if self.drops else 0.2)

    def _read(self, base_url: str) -> None:
        body = ALL_EVENTS if self.events else self._body
        headers = {"Last-Event-ID": self.events[-1].id} if self.events else {}
        leave_after = self.drops.randint(1, 40) if self.drops and self.drops.random() < 0.5 else None
        with self.http.stream("POST", f"{base_url}/v1/chat/completions", json=body, headers=headers) as response:
            if response.status_code != httpx.codes.OK:
                if response.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                    self.refusals.append(f"{self.session_id}: {response.status_code} {response.read()[:300]!r}")
                return
            for count, event in enumerate(events_of(response), start=1):
                now = time.monotonic()
                if now - self._heard_at > self.worst_pause:
                    self.worst_pause, self.paused_after = now - self._heard_at, self._heard_at
                self._heard_at = now
                self.events.append(event)
                if count == leave_after:
                    self.left += 1
                    return

    def said(self) -> str:
        """The reasoning and the answer, as far as they came."""
        deltas = [
            choice["delta"]
            for event in self.events
            if event.data != "[DONE]"
            for choice in json.loads(event.data).get("choices", ())
        ]
        return "".join((delta.get("reasoning") or "") + (delta.get("content") or "") for delta in deltas)


def draw_questions(rng: random.Random) -> list[dict[str, Any]]:
    """Half of them greedy, half drawn with a seed; a quarter with an image."""
    questions = []
    for number in range(QUESTIONS):
        content: list[dict[str, Any]] = [{"type": "text", "text": f"Ceritakan hal nomor {number}."}]
        if number % 8 in (2, 5):
            image = image_bytes((96, 64), color=(rng.randrange(256), rng.randrange(256), rng.randrange(256)))
            url = f"data:image/png;base64,{base64.b64encode(image).decode()}"
            content.append({"type": "image_url", "image_url": {"url": url}})
        sampling = {"temperature": 0} if number % 2 == 0 else {"temperature": 1, "seed": rng.randrange(2**31)}
        messages = [{"role": "user", "content": content}]
        questions.append(long_question(messages=messages, max_tokens=rng.randint(100, 600), **sampling))
    return questions


def run_streams(
    clients: Iterator[Client], total: int, at_once: int, tick: Callable[[int, int], bool], deadline: float
) -> list[Client]:
    """``total`` clients, ``at_once`` at a time, to their ends or the deadline.

    ``tick`` gets the numbers of ended and of open clients, and returns whether another may start.
    """
    begun: list[Client] = []
    while time.monotonic() < deadline:
        running = sum(client.is_alive() for client in begun)
        ended = len(begun) - running
        if ended == total:
            break
        if tick(ended, running) and running < at_once and len(begun) < total:
            begun.append(next(clients))
        else:
            time.sleep(TICK_SECONDS)
    for client in begun:
        client.given_up.set()
    return begun
