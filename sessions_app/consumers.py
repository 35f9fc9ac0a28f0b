"""The live view of a session in the admin: its chunks over a WebSocket, as they are committed.

All messages come from the server: ``{"state": …}`` at the start and at each change, ``{"chunks": [{"index",
"delta"}, …]}`` in order and without gaps, each with the part of its delta that a page shows, and
``{"state": …, "final": true}`` before a normal close. Close codes: 4400 malformed cursor, 4403 not allowed, or not any
more, 4404 unknown session, 4410 expired, 1011 an error of the server.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import parse_qs

from autobahn.exception import Disconnected
from channels.generic.websocket import AsyncJsonWebsocketConsumer, AsyncWebsocketConsumer

from sessions_app.client_address import client_address_of, client_address_scope
from sessions_app.db import in_db
from sessions_app.errors import SessionExpired
from sessions_app.hub import hub
from sessions_app.log_lines import short_id
from sessions_app.models import ChatSession
from sessions_app.privacy import permission_for, tell_shown
from sessions_app.sse import MAX_INDEX
from sessions_app.transcript import shown
from sessions_app.wakeups import StreamChunk
from sessions_app.watch_permissions import LogIn, log_in_of, still_permitted, watchers

log = logging.getLogger(__name__)

MALFORMED = 4400
FORBIDDEN = 4403
NOT_FOUND = 4404
EXPIRED = 4410
BROKEN = 1011

#: seconds without chunks after which the state is read again, because a claim or a release writes no chunk
STATE_SECONDS = 2.0
#: Daphne sends no message above a mebibyte, and a replay comes in batches of a thousand chunks. A character takes up to
#: twelve bytes in JSON, the rest of a chunk less than a hundred.
MESSAGE_CHUNKS = 100
MESSAGE_CHARS = 65_536


class UnknownPath(AsyncWebsocketConsumer):
    """Refuses a WebSocket to any other address before it is opened."""

    channel_layer_alias = ""  # opens no channel layer, which is not needed

    async def connect(self) -> None:
        await self.close(code=NOT_FOUND)


class SessionLiveView(AsyncJsonWebsocketConsumer):
    """The socket of one open detail page. It only sends; messages of the page are ignored."""

    # The hub delivers the chunks. Without a channel layer the view works while Redis is down.
    channel_layer_alias = ""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._follower: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        session_id = self.scope["url_route"]["kwargs"]["session_id"]
        log_in = log_in_of(self.scope)
        if log_in is not None:
            log_in = log_in._replace(also=await in_db(_permission_of, session_id))
        if log_in is None or not await in_db(still_permitted, [log_in]):
            await self.close(code=FORBIDDEN)
            return
        # Accept first: a browser learns the code of a close, but not why a handshake was refused.
        await self.accept()
        after = read_cursor(self.scope.get("query_string", b""))
        if after is None:
            await self.close(code=MALFORMED)
            return
        name = f"live view of {short_id(session_id)}"
        self._follower = asyncio.create_task(self._follow(session_id, after, log_in), name=name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None, **kwargs: Any) -> None:
        """Ignore it."""

    async def disconnect(self, code: int) -> None:
        if self._follower is not None:
            self._follower.cancel()
            await asyncio.wait([self._follower])

    async def _follow(self, session_id: str, after: int, log_in: LogIn) -> None:
        # Without a time limit at first. It is made to expire when the watcher loses the permission.
        until = asyncio.timeout(None)
        try:
            async with until:
                with watchers().watching(log_in, end=lambda: until.reschedule(0)):
                    code = await self._show(session_id, after)
        except TimeoutError:
            code = FORBIDDEN if until.expired() else BROKEN
        except SessionExpired:
            code = EXPIRED
        except Disconnected:
            # The page was left or reloaded while a chunk was being sent. ``disconnect`` follows.
            return
        except Exception:
            log.exception("the live view of session %s failed", short_id(session_id), extra={"session": session_id})
            code = BROKEN
        await self.close(code=code)

    async def _show(self, session_id: str, after: int) -> int:
        """Send everything to the end. Returns the code to close with."""
        session = await in_db(read_session, session_id)
        if session is None:
            return NOT_FOUND
        with client_address_scope(_address_of(self.scope)):
            await in_db(tell_shown, session, "live", user=self.scope["user"])
        if session.expired_at is not None:
            return EXPIRED
        if not session.is_at_end(after):
            await self.send_json({"state": session.shown_state})
            session = await self._show_chunks(session, after)
        if session is None:
            return EXPIRED
        await self.send_json({"state": session.shown_state, "final": True})
        return 1000

    async def _show_chunks(self, shown: ChatSession, cursor: int) -> ChatSession | None:
        """Send the chunks up to the terminal one. Returns the session as it is then, None when it has expired."""
        chunks = hub().follow(shown, cursor, idle_seconds=STATE_SECONDS)
        async with contextlib.aclosing(chunks) as batches:
            async for batch in batches:
                if batch:
                    cursor = batch[-1].index
                    for message in messages_of(batch):
                        await self.send_json({"chunks": message})
                    if shown.state != ChatSession.State.QUEUED:
                        continue
                session = await in_db(read_session, shown.pk)
                if session is None:
                    return None
                if session.is_at_end(cursor):
                    # Everything was shown, even if the chunks are gone already.
                    return session
                if session.expired_at is not None:
                    return None
                if session.shown_state != shown.shown_state and not session.is_finished:
                    await self.send_json({"state": session.shown_state})
                    shown = session
        return await in_db(read_session, shown.pk)


def messages_of(batch: Iterable[StreamChunk]) -> Iterator[list[dict[str, Any]]]:
    """The chunks as a page shows them, in messages small enough for Daphne."""
    message: list[dict[str, Any]] = []
    characters = 0
    for chunk in batch:
        delta = shown(chunk.delta)
        length = len(delta.get("text", ""))
        if message and (len(message) == MESSAGE_CHUNKS or characters + length > MESSAGE_CHARS):
            yield message
            message, characters = [], 0
        message.append({"index": chunk.index, "delta": delta})
        characters += length
    yield message


def read_cursor(query_string: bytes) -> int | None:
    """``after`` of the query; -1 when it is missing, None when it is not an index."""
    value = parse_qs(query_string.decode("latin-1")).get("after", ["-1"])[-1]
    try:
        after = int(value)
    except ValueError:
        return None
    return after if -1 <= after <= MAX_INDEX else None


def _address_of(scope: dict[str, Any]) -> str:
    """The client's IP address, as ``ClientAddressMiddleware`` finds it for a request."""
    forwarded = [value.decode("latin-1") for name, value in scope.get("headers", ()) if name == b"x-forwarded-for"]
    return client_address_of((scope.get("client") or ("",))[0], ",".join(forwarded))


def _permission_of(session_id: str) -> str:
    """The permission that reading this session needs besides the one to view sessions."""
    origin = ChatSession.objects.filter(pk=session_id).values_list("origin", flat=True).first()
    return permission_for(origin or "")


def read_session(session_id: str) -> ChatSession | None:
    """The session with the columns that a live view needs besides its chunks, and no others."""
    columns = ("state", "origin", "cancel_requested_at", "expired_at", "next_index", "created_at")
    return ChatSession.objects.filter(pk=session_id).only(*columns).first()
