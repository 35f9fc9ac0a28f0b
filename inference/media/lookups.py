"""Resolve host names through the system, off the event loop and with a time limit.

The system's resolver cannot be interrupted, so each lookup has its own thread, and a name server that never answers
occupies that thread for as long as the system tries. The waiting time, the number of threads and the share of them that
one caller may hold are limited.
"""

from __future__ import annotations

import asyncio
import collections
import socket
import threading

#: how long a caller waits for an answer
LOOKUP_SECONDS = 5.0
#: concurrent lookups in this process, and of one caller
MAX_LOOKUPS, MAX_LOOKUPS_OF_CALLER = 64, 4
#: seconds between two checks for a free thread
TURN_SECONDS = 0.02


class _Turns:
    """Who holds how many of the threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._held: collections.Counter[str] = collections.Counter()

    def take(self, caller: str) -> bool:
        with self._lock:
            if self._held.total() >= MAX_LOOKUPS or self._held[caller] >= MAX_LOOKUPS_OF_CALLER:
                return False
            self._held[caller] += 1
            return True

    def release(self, caller: str) -> None:
        with self._lock:
            self._held[caller] -= 1
            if not self._held[caller]:
                del self._held[caller]


_turns = _Turns()


async def resolve_host(host: str, port: int, *, caller: str = "") -> list[str]:
    """The host's addresses, best first. Raises OSError where it has none or they do not come in time.

    ``caller`` is who needs the answer: names that never resolve only delay the same caller.
    """
    async with asyncio.timeout(LOOKUP_SECONDS):
        while not _turns.take(caller):  # noqa: ASYNC110  (threads give them back, whatever loop waits)
            await asyncio.sleep(TURN_SECONDS)
        answer: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        # A daemon: it cannot be interrupted, so it is not joined when the process ends.
        threading.Thread(
            target=_look_up, args=(host, port, caller, answer), name=f"media-dns-{host[:40]}", daemon=True
        ).start()
        return await answer


def _look_up(host: str, port: int, caller: str, answer: asyncio.Future[list[str]]) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        # A dict keeps the system's order and drops repeats.
        result: list[str] | Exception = list({str(entry[4][0]): None for entry in found})
    except (OSError, ValueError) as error:  # ValueError: a name with an empty or overlong label
        result = error
    finally:
        _turns.release(caller)

    def deliver() -> None:
        if answer.done():  # no caller waits any more
            return
        if isinstance(result, Exception):
            answer.set_exception(result)
        else:
            answer.set_result(result)

    try:
        answer.get_loop().call_soon_threadsafe(deliver)
    except RuntimeError:
        pass  # the loop was closed meanwhile
