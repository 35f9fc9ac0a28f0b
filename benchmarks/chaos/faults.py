"""The faults: what breaks, when, and how it is repaired."""

from __future__ import annotations

import dataclasses
import os
import random
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

import redis

from benchmarks.chaos.stack import LEASE_SECONDS, READY_SECONDS, ChaosStack
from tests.live.stack import Process

#: one round of the schedule: what a fault does, and between how many seconds it lasts
DECK: tuple[tuple[str, tuple[float, float]], ...] = (
    ("worker killed", (0.0, 2.0)),
    ("engine killed", (0.0, 0.0)),
    ("worker frozen", (LEASE_SECONDS + 0.5, LEASE_SECONDS + 3.0)),
    ("worker stopped", (0.0, 2.0)),
    ("web killed", (0.0, 2.0)),
    ("web stopped", (0.0, 2.0)),
    ("redis emptied", (0.0, 0.0)),
    ("redis cut", (2.0, 6.0)),
    ("database cut", (1.0, 4.0)),
    ("messages repeated", (0.0, 0.0)),
)


@dataclasses.dataclass(frozen=True, slots=True)
class Fault:
    kind: str
    target: str
    #: seconds for which a fault lasts
    seconds: float
    #: number of ended streams at which the fault starts
    after: int


def draw_faults(rng: random.Random, count: int, *, streams: int, stack: ChaosStack) -> deque[Fault]:
    """Spread over the run, in rounds of the deck; the last come while streams are still open."""
    cards: list[tuple[str, tuple[float, float]]] = []
    while len(cards) < count:
        cards += rng.sample(DECK, len(DECK))
    points = sorted(rng.uniform(1, 0.9 * streams) for _ in range(count))
    targets = {"worker": stack.workers, "engine": stack.workers, "web": list(stack.ports), "messages": ["redis"]}
    return deque(
        Fault(kind, rng.choice(targets.get(kind.split()[0], [kind.split()[0]])), rng.uniform(*seconds), int(point))
        for (kind, seconds), point in zip(cards, points, strict=False)
    )


class Injector:
    """Breaks one target at a time, each on a thread of its own, and mends it again whatever happens."""

    def __init__(self, stack: ChaosStack) -> None:
        self._stack = stack
        self._busy: dict[str, threading.Thread] = {}
        self._stopping = threading.Event()
        #: findings that no fault explains
        self.troubles: list[str] = []
        #: process and seconds
        self.slowest_stop = ("", 0.0)

    def is_free(self, target: str) -> bool:
        thread = self._busy.get(target)
        return thread is None or not thread.is_alive()

    def aimed(self, fault: Fault) -> Fault | None:
        """The fault, at another process of the kind when its own is broken already; None when all of them are."""
        stack = self._stack
        siblings = next((names for names in (stack.workers, list(stack.ports)) if fault.target in names), [])
        free = [target for target in (fault.target, *siblings) if self.is_free(target)]
        return dataclasses.replace(fault, target=free[0]) if free else None

    def inject(self, fault: Fault) -> None:
        self._start(fault.target, self._break, fault)

    def look_after_processes(self) -> None:
        """Start again what ended without a fault, as a supervisor would, and note it."""
        for name, process in list(self._stack.processes.items()):
            if self.is_free(name) and not process.is_running():
                self.troubles.append(f"{name} ended by itself: {process.log.read_text()[-500:]}")
                self._start(name, self._start_again, name)

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._busy.values():
            thread.join()

    def _start(self, target: str, call: Callable[..., None], argument: Any) -> None:
        self._busy[target] = threading.Thread(target=call, args=(argument,), name=f"fault on {target}")
        self._busy[target].start()

    def _break(self, fault: Fault) -> None:
        stack = self._stack
        match fault.kind.split():
            case ["redis", "emptied"]:
                with redis.Redis.from_url(stack.redis_url) as broker:
                    broker.flushdb()
            case ["messages", "repeated"]:
                self._repeat_messages()
            case ["redis" | "database", "cut"]:
                proxy = stack.broker if fault.target == "redis" else stack.database
                proxy.cut()
                self._stopping.wait(fault.seconds)
                proxy.mend()
            case ["worker", "frozen"]:
                process = stack.processes[fault.target]
                os.kill(process.pid, signal.SIGSTOP)
                self._stopping.wait(fault.seconds)
                os.kill(process.pid, signal.SIGCONT)
            case ["engine", "killed"]:
                if not stack.kill_engine(fault.target):
                    self.troubles.append(f"{fault.target} has no engine that could be killed")
                self._wait_until_loaded(fault.target)
            case [_, how]:
                process = stack.processes[fault.target]
                if how == "killed":
                    process.kill()
                else:
                    self._terminate(fault.target, process)
                self._stopping.wait(fault.seconds)
                self._start_again(fault.target)

    def _terminate(self, name: str, process: Process) -> None:
        started = time.monotonic()
        try:
            process.stop()
        except AssertionError as exc:
            self.troubles.append(f"{name}: {exc}")
        self.slowest_stop = max(self.slowest_stop, (name, time.monotonic() - started), key=lambda stop: stop[1])

    def _start_again(self, name: str) -> None:
        process = None
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline and not self._stopping.is_set():
            if process is None or not process.is_running():
                process = self._stack.start_process(name)
            if self._stack.is_ready(name):
                return
            self._stopping.wait(0.3)

    def _wait_until_loaded(self, name: str) -> None:
        """Until the worker has loaded its model again: it is not ready, and then it is."""
        deadline = time.monotonic() + READY_SECONDS
        for is_ready in (False, True):
            while self._stack.is_ready(name) != is_ready:
                if self._stopping.wait(0.1):
                    return
                if time.monotonic() > deadline:
                    self.troubles.append(f"{name} has not loaded its model again")
                    return

    def _repeat_messages(self) -> None:
        """Send every unfinished session to the workers twice more."""
        rows = self._stack.query("SELECT id FROM sessions_app_chatsession WHERE state IN ('queued', 'running')")
        twice = [session_id for (session_id,) in rows for _ in range(2)]
        # By a process with the stack's settings: a message that is not sealed with its SECRET_KEY is dropped.
        self._stack.run_python(
            "import django; django.setup()\nfrom sessions_app.store import queue\n"
            f"for name in {twice!r}: queue.send(name)\n"
        )
