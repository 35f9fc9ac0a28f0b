"""The servers that are measured, in both shapes, with the settings of a deployment."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.engine.questions import GREEDY_FIELDS, bodies
from benchmarks.serve.clients import as_run, run_clients
from benchmarks.servers import own_redis
from inference.engine.types import GenerationRequest
from tests import services
from tests.live.stack import EmbeddedStack, ScaledStack, Stack


class Server:
    """One running stack, asked over HTTP by clients in a process of their own."""

    def __init__(self, name: str, stack: Stack) -> None:
        self.name = name
        self._stack = stack

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._stack.processes.values()]

    def run(self, requests: Sequence[GenerationRequest], *, every_seconds: float = 0.0) -> dict[str, Any]:
        """Stream all answers; raises RuntimeError when one is not whole."""
        tokens = sum(request.sampling.max_tokens for request in requests)
        before = self._generated()
        asked = bodies(requests, **GREEDY_FIELDS)
        found = run_clients(self._stack.port, asked, every_seconds=every_seconds, pids=self.pids)
        if self._generated() - before != tokens:
            raise RuntimeError(f"{self.name}: not all answers are whole:\n{self._stack.logs()[-3000:]}")
        return as_run(found, tokens, list(self._stack.processes))

    def _generated(self) -> int:
        sql = "SELECT COALESCE(SUM(completion_tokens), 0) FROM sessions_app_chatsession WHERE state = 'completed'"
        return int(self._stack.query(sql)[0][0])


@contextlib.contextmanager
def start_embedded(folder: Path, model: Path, settings: Mapping[str, object]) -> Iterator[Server]:
    stack = EmbeddedStack(folder, model, **settings)
    try:
        yield Server("embedded", stack.start())
    finally:
        stack.stop()


@contextlib.contextmanager
def start_scaled(folder: Path, model: Path, settings: Mapping[str, object]) -> Iterator[Server]:
    with own_redis(folder) as redis_url:
        stack = ScaledStack(folder, model, postgres_url=services.POSTGRES_URL, redis_url=redis_url, **settings)
        try:
            yield Server("scaled", stack.start())
        finally:
            stack.stop()
