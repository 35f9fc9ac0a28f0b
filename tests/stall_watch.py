"""Counts what holds up an event loop, in processor time, so that a busy machine does not count.

Two things hold up a loop: a callback of its own that computes, and another thread that keeps the interpreter, as a C
function does which never gives it back before it returns. The first is measured around every callback, by the clock of
the loop's thread, which stands still while others compute. The second is seen by a thread that wants the interpreter
every few milliseconds: it counts how long it was kept waiting, less the time for which it waited for a processor, and
no more than one other thread has computed meanwhile.

Linux only: ``/proc/…/schedstat`` tells what a thread has waited and computed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: what one callback, or one thread that keeps the interpreter, may compute at a stretch
BOUND_SECONDS = 0.05
TICK_SECONDS = 0.01
#: after so many ticks everything is written down that happened before the first
SETTLED_TICKS = 3

AVAILABLE = Path("/proc/thread-self/schedstat").exists()


@dataclasses.dataclass(frozen=True, slots=True)
class Stall:
    """One thing that held up the loop."""

    #: ``callback`` or ``interpreter``
    kind: str
    #: of processor time
    milliseconds: int
    #: the callback, or the thread and where it is now
    where: str


class StallWatch:
    """Watches the loop of the main thread from ``start`` to ``stop``."""

    def __init__(self, *, bound_seconds: float = BOUND_SECONDS) -> None:
        self._bound = bound_seconds
        self._stalls: list[Stall] = []
        self._ticks = 0
        self._stopping = False
        self._thread = threading.Thread(target=self._want_the_interpreter, name="stall-watch", daemon=True)
        self._run_callback = asyncio.Handle._run

    def start(self) -> None:
        watch, run_callback = self, self._run_callback

        def run(handle: asyncio.Handle) -> None:
            started = time.thread_time()
            run_callback(handle)
            took = time.thread_time() - started
            if took > watch._bound and threading.current_thread() is threading.main_thread():
                watch._stalls.append(Stall("callback", round(1000 * took), repr(handle)[:300]))

        asyncio.Handle._run = run  # type: ignore[assignment,method-assign]
        self._thread.start()

    def stop(self) -> None:
        asyncio.Handle._run = self._run_callback  # type: ignore[method-assign]
        self._stopping = True
        self._thread.join()

    def take(self) -> list[Stall]:
        """The stalls since it was last asked; waits for those that are still to be written down."""
        settled = self._ticks + SETTLED_TICKS
        while self._ticks < settled:
            time.sleep(TICK_SECONDS)
        taken, self._stalls = self._stalls, []
        return taken

    def answer_on(self, port: int) -> None:
        """Give ``take`` to whoever connects to the port of this machine, as JSON."""
        listener = socket.create_server(("127.0.0.1", port))

        def answer() -> None:
            while True:
                client, _ = listener.accept()
                with client, contextlib.suppress(OSError):
                    client.sendall(json.dumps([dataclasses.asdict(stall) for stall in self.take()]).encode())

        threading.Thread(target=answer, name="stall-watch-answers", daemon=True).start()

    def _want_the_interpreter(self) -> None:
        me = threading.get_native_id()
        before = dict(_threads())
        while not self._stopping:
            due = time.monotonic() + TICK_SECONDS
            time.sleep(TICK_SECONDS)
            late = time.monotonic() - due
            after = dict(_threads())
            if late > self._bound:
                late -= after[me].waited - before[me].waited
                # One that has only now begun was not there to keep anything.
                spent = {tid: after[tid].computed - before[tid].computed for tid in after.keys() & before.keys() - {me}}
                holder = max(spent, key=lambda tid: spent[tid], default=me)
                kept = min(late, spent.get(holder, 0.0))
                if kept > self._bound:
                    self._stalls.append(Stall("interpreter", round(1000 * kept), _whereabouts(holder)))
            before = after
            self._ticks += 1


@dataclasses.dataclass(frozen=True, slots=True)
class _Times:
    """Of a thread, in seconds."""

    computed: float
    #: for a processor, being ready to compute
    waited: float


def _threads() -> Iterator[tuple[int, _Times]]:
    """Every thread that can hold the interpreter, by its native id."""
    for thread in threading.enumerate():
        with contextlib.suppress(OSError):  # it has ended
            computed, waited, _ = Path(f"/proc/self/task/{thread.native_id}/schedstat").read_text().split()
            yield thread.native_id or 0, _Times(int(computed) / 1e9, int(waited) / 1e9)


def _whereabouts(native_id: int) -> str:
    thread = next((one for one in threading.enumerate() if one.native_id == native_id), None)
    frame: Any = sys._current_frames().get(thread.ident or 0) if thread else None
    if thread is None or frame is None:
        return "a thread that has ended"
    return f"{thread.name}, now in {frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
