"""Connections that cannot keep the event loop busy: slow senders are read only a few times per second."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore
from httpcore import SOCKET_OPTION, AsyncNetworkBackend, AsyncNetworkStream

#: a piece with fewer bytes is small
SMALL_BYTES = 8192
#: small pieces before a connection is slowed down; headers, ends of bodies and small files arrive in such pieces
FREE_PIECES = 20
#: pause after each further small piece, in which more data can arrive
PAUSE_SECONDS = 0.02
#: maximum reads per second of all slow connections together; the pause is longer if they would exceed it
READS_PER_SECOND = 500


# ruff: noqa: ASYNC109  (the signatures are httpcore's)


class PacedStream(AsyncNetworkStream):
    """A connection that is not read again at once after a small piece."""

    #: connections that are paused now
    pausing = 0

    def __init__(self, stream: AsyncNetworkStream) -> None:
        self._stream = stream
        self._small_pieces = 0

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._stream.read(max_bytes, timeout)
        if len(data) < min(SMALL_BYTES, max_bytes):
            self._small_pieces += 1
            if self._small_pieces > FREE_PIECES:
                await self._pause()
        return data

    async def _pause(self) -> None:
        PacedStream.pausing += 1
        try:
            await asyncio.sleep(max(PAUSE_SECONDS, PacedStream.pausing / READS_PER_SECOND))
        finally:
            PacedStream.pausing -= 1

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> AsyncNetworkStream:
        return PacedStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


class PacedNetwork(AsyncNetworkBackend):
    """Makes paced connections."""

    def __init__(self) -> None:
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[SOCKET_OPTION] | None = None,
    ) -> AsyncNetworkStream:
        return PacedStream(await self._network.connect_tcp(host, port, timeout, local_address, socket_options))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
