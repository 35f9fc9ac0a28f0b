"""Daphne with back-pressure: a client that does not read delays only its own stream, and no data piles up for it.

Incoming requests are bounded too: see ``sessions_app.http_channel``.

Daphne writes into Twisted's buffer without checking its size, so for one stalled reader of a long replay all of it
would be in memory. Twisted notifies a producer when the buffer is full and when it has drained; here ``send`` waits in
between, which stops the view's generator at its ``yield``, or the live view's follower. A reader that stays stalled is
disconnected: it can resume.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import gc
import logging
import socket
import struct
import termios
from collections.abc import Callable
from typing import Any

from channels.routing import get_default_application
from daphne.endpoints import build_endpoint_description_strings
from daphne.server import Server
from daphne.ws_protocol import WebSocketProtocol
from django.conf import settings
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

from sessions_app.http_channel import EXTENSION, BoundedRequest, build_channel
from sessions_app.signals import web_server_ended, web_server_starts

log = logging.getLogger(__name__)

#: seconds that cancelled applications have to clean up when the server stops or a client leaves
CLOSE_SECONDS = 5
#: connections that the system holds until they are accepted; when more arrive at once, it drops some
BACKLOG = 1024
#: seconds between two checks whether a WebSocket's client has read the rest; no event says so
DRAIN_POLL_SECONDS = 0.1


class PortTaken(Exception):
    """Another process listens there already."""


@implementer(IPushProducer)
class Gate:
    """Open while the client takes what is written. Twisted calls it on the loop's thread."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.opened.set()

    def pauseProducing(self) -> None:
        self.opened.clear()

    def resumeProducing(self) -> None:
        self.opened.set()

    def stopProducing(self) -> None:
        """The connection is gone: stop waiting for it."""
        self.opened.set()


class BackpressureServer(Server):
    """Sends a streamed response or a WebSocket's messages no faster than the reader takes them."""

    def __init__(self, *args: Any, on_ready: Callable[[], None], **kwargs: Any) -> None:
        super().__init__(*args, ready_callable=self._get_ready, **kwargs)
        self._on_ready = on_ready
        #: gates of open streams, by Daphne's request or WebSocket
        self._gates: dict[Any, Gate] = {}

    def _get_ready(self) -> None:
        # A reader answers a close when it has taken all that was sent before. Where it needs longer than autobahn's one
        # second for that, the connection would be cut, and the end lost.
        self.ws_factory.setProtocolOptions(closeHandshakeTimeout=max(1.0, settings.STALLED_READER_SECONDS))
        # Nobody has connected yet: the reactor runs only after this.
        self.http_factory.buildProtocol = functools.partial(build_channel, self.http_factory)
        self._on_ready()

    def create_application(self, protocol: Any, scope: dict[str, Any]) -> Any:
        if isinstance(protocol, BoundedRequest):
            scope["extensions"] = {EXTENSION: protocol.received}
        return super().create_application(protocol, scope)

    async def handle_reply(self, protocol: Any, message: dict[str, Any]) -> None:
        match message:
            case {"type": "http.response.body", "more_body": True} | {"type": "websocket.send"}:
                gate = self._gate_of(protocol)
                await super().handle_reply(protocol, message)
                if gate is not None and not gate.opened.is_set():
                    await self._wait_for_reader(protocol, gate)
            case {"type": "http.response.body" | "websocket.close"}:
                if (gate := self._gates.pop(protocol, None)) is not None:
                    # Twisted refuses to finish a request that has a producer.
                    gate.stopProducing()
                    protocol.unregisterProducer()
                    if isinstance(protocol, WebSocketProtocol):
                        await self._wait_for_the_rest(protocol)
                await super().handle_reply(protocol, message)
            case _:
                await super().handle_reply(protocol, message)

    def _gate_of(self, protocol: Any) -> Gate | None:
        """The gate of this connection; None when the connection is gone."""
        if protocol not in self._gates and _is_open(protocol):
            self._gates[protocol] = Gate()
            if isinstance(protocol, WebSocketProtocol):
                # Twisted's HTTP channel holds the place since before the upgrade.
                protocol.unregisterProducer()
            protocol.registerProducer(self._gates[protocol], True)
        return self._gates.get(protocol)

    async def _wait_for_reader(self, protocol: Any, gate: Gate) -> None:
        unsent = _unsent_bytes(protocol.transport)
        while not gate.opened.is_set():
            try:
                async with asyncio.timeout(settings.STALLED_READER_SECONDS):
                    await gate.opened.wait()
            except TimeoutError:
                before, unsent = unsent, _unsent_bytes(protocol.transport)
                if unsent == before:
                    log.info("a client read nothing for %g s and is disconnected", settings.STALLED_READER_SECONDS)
                    # Soon after, protocol_disconnected opens the gate.
                    protocol.transport.abortConnection()

    async def _wait_for_the_rest(self, protocol: WebSocketProtocol) -> None:
        """Wait until a reader has been sent everything, however slowly, or has read nothing for too long."""
        loop = asyncio.get_running_loop()
        unsent, shrunk_at = _unsent_bytes(protocol.transport), loop.time()
        while unsent and loop.time() - shrunk_at < settings.STALLED_READER_SECONDS:
            await asyncio.sleep(DRAIN_POLL_SECONDS)
            if not _is_open(protocol):
                return
            before, unsent = unsent, _unsent_bytes(protocol.transport)
            if unsent < before:
                shrunk_at = loop.time()

    def protocol_disconnected(self, protocol: Any) -> None:
        if (gate := self._gates.pop(protocol, None)) is not None:
            gate.stopProducing()
        super().protocol_disconnected(protocol)

    def application_checker(self) -> None:
        """Runs each second: remove what has ended.

        A response that an error broke off is cut here. Daphne would send it an error page; the second head
        raises, its checker never runs again, and the client waits for ever.
        """
        for protocol, details in self.connections.items():
            application = details.get("application_instance")
            if application is None or not application.done() or application.cancelled() or "disconnected" in details:
                continue
            # A WebSocket has no such mark.
            if getattr(protocol, "_response_started", False) and (error := application.exception()) is not None:
                log.error("a response was not sent completely", exc_info=error)
                del details["application_instance"]
                protocol.transport.abortConnection()
        super().application_checker()


def _is_open(protocol: Any) -> bool:
    if isinstance(protocol, WebSocketProtocol):
        return bool(protocol.state == protocol.STATE_OPEN)
    return not protocol.finished and protocol.channel is not None


def _unsent_bytes(transport: Any) -> int:
    """Bytes not yet sent to this reader, in Twisted's buffer and the system's. Only shrinks while ``send`` waits."""
    waiting: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
    # The system's buffer may hold megabytes: Twisted does not notice when a slow client reads a part of them.
    with contextlib.suppress(OSError):  # a system that does not report it
        [waiting_in_system] = struct.unpack("i", fcntl.ioctl(transport.getHandle(), termios.TIOCOUTQ, bytes(4)))
        waiting += waiting_in_system
    return waiting


def run_web_server(*, host: str, port: int, on_ready: Callable[[], None]) -> None:
    """Serve ``ASGI_APPLICATION`` until SIGINT or SIGTERM; open streams end after their last committed event.

    Raises ``PortTaken``.
    """
    _check_port(host, port)
    # Objects imported so far stay alive. Otherwise each full collection would visit them while all streams wait.
    gc.collect()
    gc.freeze()
    server = BackpressureServer(
        application=get_default_application(),
        endpoints=[f"{one}:backlog={BACKLOG}" for one in build_endpoint_description_strings(host=host, port=port)],
        on_ready=on_ready,
        application_close_timeout=CLOSE_SECONDS,
        root_path=settings.ROOT_PATH,
        server_name="sambung",
        verbosity=0,
    )
    web_server_starts.send(sender=None)
    try:
        server.run()
    finally:
        web_server_ended.send(sender=None)


def _check_port(host: str, port: int) -> None:
    """Daphne would only log that it cannot listen, and go on without a port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as exc:
            raise PortTaken(
                f"Cannot listen on {host}:{port}: {exc.strerror}. Set HOST and PORT to a free address."
            ) from exc
