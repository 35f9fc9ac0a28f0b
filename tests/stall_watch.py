"""Counts what holds up an event loop, in processor time, so that a busy machine does not count.

Two things hold up a loop: a callback of its own that computes, and another thread that keeps the interpreter, as a C
function does which never gives it back before it returns. The first is measured around every callback, by the clock of
the loop's thread, which stands still while others compute. The second is seen by a thread that wants the interpreter
every few milliseconds: it counts how long it was kept waiting, less the time for which it waited for a processor, and
no more than one other thread has computed meanwhile.

Linux only: it reads ``/proc/thread-self/schedstat``, and the processor clocks of threads by their native ids.
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
from pathlib import Path
from typing import Any

#: what one callback, or one thread that keeps the interpreter, may compute at a stretch: the time of so many additions
#: in Python, which is 0.05 s on a fast machine
BOUND_ADDITIONS = 1_500_000
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


def bound_seconds() -> float:
    """``BOUND_SECONDS``, or the time of ``BOUND_ADDITIONS`` if that is longer on this machine now."""
    total, started = 0, time.thread_time()
    for number in range(BOUND_ADDITIONS // 10):
        total += number
    return max(BOUND_SECONDS, 10 * (time.thread_time() - started))


class StallWatch:
    """Watches the loop of the main thread from ``start`` to ``stop``."""

    def __init__(self) -> None:
        self._bound = bound_seconds()
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
        before = _Look.now()
        while not self._stopping:
            time.sleep(TICK_SECONDS)
            after = _Look.now()
            late = after.at - before.at - TICK_SECONDS
            if late > self._bound:
                late -= after.waited - before.waited
                # One that has only now begun was not there to keep anything.
                spent = {
                    tid: after.computed[tid] - before.computed[tid]
                    for tid in after.computed.keys() & before.computed.keys()
                }
                holder = max(spent, key=lambda tid: spent[tid], default=0)
                kept = min(late, spent.get(holder, 0.0))
                if kept > self._bound:
                    self._stalls.append(Stall("interpreter", round(1000 * kept), _whereabouts(holder)))
            before = after
            self._ticks += 1


@dataclasses.dataclass(frozen=True, slots=True)
class _Look:
    """What the calling thread sees of time, in seconds."""

    #: by the clock on the wall
    at: float
    #: for how long it has waited for a processor, being ready to compute
    waited: float
    #: by every other thread that can hold the interpreter, by its native id
    computed: dict[int, float]

    @classmethod
    def now(cls) -> _Look:
        # The file first: reading it gives the interpreter away. All that follows is of one moment.
        waited = int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
        computed = {}
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and thread.native_id is not None:
                with contextlib.suppress(OSError):  # it has ended
                    computed[thread.native_id] = time.clock_gettime(_clock_of(thread.native_id))
        return cls(time.monotonic(), waited, computed)


def _clock_of(native_id: int) -> int:
    """The processor clock of a thread, as Linux numbers it. Of an ended thread, the call of pthread may crash."""
    return (~native_id << 3) | 0b110


def _whereabouts(native_id: int) -> str:
    thread = next((one for one in threading.enumerate() if one.native_id == native_id), None)
    frame: Any = sys._current_frames().get(thread.ident or 0) if thread else None
    if thread is None or frame is None:
        return "a thread that has ended"
    return f"{thread.name}, now in {frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
