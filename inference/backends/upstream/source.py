"""Finds the upstream, and polls whether it is available."""

from __future__ import annotations

import asyncio
import logging
import time

from django.conf import settings

from inference.backends.base import SourceListener
from inference.backends.upstream.engine import UpstreamEngine
from inference.backends.upstream.target import NotReady, find_target

log = logging.getLogger(__name__)

#: seconds between two polls, of an available upstream and of an unavailable one
POLL_SECONDS = 5.0
RETRY_SECONDS = 1.0


class UpstreamSource:
    """There is an engine while the upstream lists its models.

    Sessions wait while it has been unavailable for up to ``UPSTREAM_RETRY_SECONDS``; then they are refused with the
    reason until it is back. A wrong key or model is reported at once.
    """

    def __init__(self) -> None:
        self._engine = UpstreamEngine()
        self._reload_request = asyncio.Event()
        #: the last reported reason why the upstream is unavailable, so that each is reported once
        self._reported = ""
        self._is_ready = False
        self._waiting_since = 0.0

    def start(self, listener: SourceListener) -> None:
        self._listener = listener
        self._engine.start()
        self._polling = self._engine.run(self._watch())

    @property
    def name(self) -> str:
        return self._engine.name

    def is_alive(self) -> bool:
        return self._engine.is_alive() and not self._polling.done()

    def reload(self) -> None:
        self._engine.call(self._reload_request.set)

    def stop(self, timeout_seconds: float) -> bool:
        return self._engine.stop(timeout_seconds)

    async def _watch(self) -> None:
        self._waiting_since = time.monotonic()
        self._listener.engine_pending("waiting for the upstream server")
        while True:
            try:
                await self._poll()
            except Exception:
                log.exception("polling the upstream failed and will be retried")
            try:
                async with asyncio.timeout(POLL_SECONDS if self._is_ready else RETRY_SECONDS):
                    await self._reload_request.wait()
            except TimeoutError:
                pass
            self._reload_request.clear()

    async def _poll(self) -> None:
        try:
            target = await find_target(self._engine.client)
        except NotReady as exc:
            if self._is_ready:
                self._is_ready = False
                self._waiting_since = time.monotonic()
            is_over = exc.for_good or time.monotonic() - self._waiting_since >= settings.UPSTREAM_RETRY_SECONDS
            self._report(f"{'failed' if is_over else 'waiting'}: {exc.reason}", exc.reason, has_failed=is_over)
            return
        self._engine.target = target
        if not self._is_ready:
            self._is_ready = True
            self._reported = ""
            log.info("the upstream has the model %s; resume mode: %s", target.model, target.resume)
            self._listener.engine_ready(self._engine)

    def _report(self, news: str, reason: str, *, has_failed: bool) -> None:
        if news == self._reported:
            return
        self._reported = news
        log.warning("the upstream %s %s", settings.UPSTREAM_BASE_URL, reason)
        if has_failed:
            self._listener.engine_failed(f"the upstream server {reason}")
        else:
            self._listener.engine_pending(f"waiting for the upstream server: it {reason}")
