"""Runs sessions on an upstream server: one event loop in one thread handles all streams."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any

import httpx
from django.conf import settings

from inference.backends.upstream.call import AnswerSoFar, Call, calls_of, committed
from inference.backends.upstream.refused_formats import RefusedFormats
from inference.backends.upstream.relay import Relay
from inference.backends.upstream.target import Target
from inference.engine.errors import EngineStopped
from inference.engine.handle import Handle
from sessions_app.models import ChatSession

log = logging.getLogger(__name__)

#: seconds before each attempt to cancel; the upstream may not know the session yet if its request was still under way
CANCEL_PAUSES = (0.0, 0.5, 2.0)
#: time reserved at the end of a stop for cancels that are being sent
LAST_CANCELS_SECONDS = 1.0
#: connections in addition to the streams, for probes and cancels
SPARE_CONNECTIONS = 8


@dataclasses.dataclass(frozen=True, slots=True)
class UpstreamStats:
    #: streams open now
    running: int


class UpstreamHandle(Handle):
    """Records whether the answer was cancelled, or this worker only stops relaying it."""

    was_cancelled = False

    def cancel(self) -> None:
        self.was_cancelled = not self.closed
        super().cancel()


class UpstreamEngine:
    """Relays answers from the upstream server. ``target`` must be set before sessions are submitted."""

    target: Target

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="upstream", daemon=True)
        self._lock = threading.Lock()
        self._open: dict[Handle, tuple[Call, Future[None]]] = {}
        self._cancels: set[Future[None]] = set()
        self._stopping = False
        self._refused_formats = RefusedFormats()
        key = settings.UPSTREAM_API_KEY
        self.client = httpx.AsyncClient(
            base_url=f"{settings.UPSTREAM_BASE_URL.rstrip('/')}/",
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(settings.UPSTREAM_TIMEOUT_SECONDS, connect=settings.UPSTREAM_CONNECT_SECONDS),
            limits=httpx.Limits(max_connections=settings.MAX_BATCH_SIZE + settings.RESERVED_SLOTS + SPARE_CONNECTIONS),
        )

    @property
    def vision(self) -> None:
        """Unknown: the upstream itself counts the tokens of media."""
        return None

    @property
    def max_sessions(self) -> int:
        return int(settings.MAX_BATCH_SIZE)

    def start(self) -> None:
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, None]) -> Future[None]:
        """Run a coroutine on the loop of the streams."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call(self, callback: Callable[[], None]) -> None:
        """Call a function on the loop of the streams. Safe in signal handlers; does nothing after the engine's stop."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(callback)

    @property
    def fingerprint(self) -> dict[str, Any]:
        return {"engine": "openai", "upstream_model": self.target.model, "upstream_resume": self.target.resume}

    def submit(self, session: ChatSession) -> list[Handle]:
        """Raises EngineStopped, and UpstreamError for a started session that cannot be continued there."""
        return [
            self._relay(call, so_far)
            for call, so_far in zip(calls_of(session, self.target), committed(session), strict=True)
        ]

    def _relay(self, call: Call, so_far: AnswerSoFar) -> Handle:
        handle = UpstreamHandle(self._closed, resumed_tokens=so_far.tokens)
        relay = Relay(self.client, call, so_far, handle, self._refused_formats)
        with self._lock:
            if self._stopping:
                raise EngineStopped
            self._open[handle] = (call, self.run(relay.run()))
        return handle

    @property
    def name(self) -> str:
        return self._thread.name

    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def stats(self) -> UpstreamStats:
        return UpstreamStats(running=len(self._open))

    def stop(self, timeout_seconds: float) -> bool:
        with self._lock:
            self._stopping = True
            handles = list(self._open)
        for handle in handles:
            handle.finish(EngineStopped())
        if self._thread is threading.current_thread() or not self._thread.is_alive():
            return True
        with contextlib.suppress(TimeoutError):
            self.run(self._close()).result(timeout_seconds)
        self.call(self._loop.stop)
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    def _run_loop(self) -> None:
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    async def _close(self) -> None:
        if cancels := [asyncio.wrap_future(future) for future in list(self._cancels)]:
            await asyncio.wait(cancels, timeout=LAST_CANCELS_SECONDS)
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        await self.client.aclose()
        await self._loop.shutdown_default_executor()

    def _closed(self, handle: Handle) -> None:
        """Called on any thread when the handle has ended: the stream is no longer needed."""
        with self._lock:
            call, relaying = self._open.pop(handle)
        relaying.cancel()
        if isinstance(handle, UpstreamHandle) and handle.was_cancelled and call.target.resume == "session":
            future = self.run(self._cancel(call))
            self._cancels.add(future)
            future.add_done_callback(self._cancels.discard)

    async def _cancel(self, call: Call) -> None:
        """Cancel on another Sambung server, which continues without a listener. Others see the connection close."""
        for pause in CANCEL_PAUSES:
            await asyncio.sleep(pause)
            try:
                async with self.client.stream("POST", f"cancel/{call.upstream_id}") as response:
                    pass  # only the status matters
            except httpx.HTTPError as exc:
                log.info("a cancel did not reach the upstream: %s", type(exc).__name__)
                continue
            if response.status_code == httpx.codes.OK:
                return
        log.warning("a cancel could not be delivered to the upstream; it will cancel the answer by its own limit")
