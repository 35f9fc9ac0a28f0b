"""The messages between a worker and the process of its engine, pickled, over a private socket pair.

Some are sent for every token, so they are named tuples, and are sent in lists.
"""

from __future__ import annotations

import pickle
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from inference.engine.config import EngineConfig
from inference.engine.errors import EngineError
from inference.engine.progress import Progress
from inference.engine.stats import EngineStats, ModelFacts
from inference.engine.types import Delta, Finish, GenerationRequest

# --- From the worker ---


class Start(NamedTuple):
    """The first message."""

    config: EngineConfig
    #: name of a logger → its level
    log_levels: dict[str, int]


class Submit(NamedTuple):
    #: of the generation, assigned by the worker
    number: int
    request: GenerationRequest


class Cancel(NamedTuple):
    number: int


class AskStats(NamedTuple):
    """Answered with ``Stats``."""


# --- From the engine's process ---


class Loading(NamedTuple):
    progress: Progress


class Ready(NamedTuple):
    """The model is loaded, and generations can be submitted."""

    facts: ModelFacts
    stats: EngineStats


class LoadFailed(NamedTuple):
    """The last message: the process ends."""

    error: EngineError


class Prepared(NamedTuple):
    """The prompt of a generation is ready for prefill."""

    number: int
    prompt_tokens: int
    reasoning_tokens: int


class Added(NamedTuple):
    """The next delta of a generation."""

    number: int
    delta: Delta
    #: of the whole answer so far
    reasoning_tokens: int


class Ended(NamedTuple):
    """The last message about a generation."""

    number: int
    end: Finish | EngineError
    #: traceback of what caused the error
    cause: str = ""


class Stats(NamedTuple):
    stats: EngineStats


class Logged(NamedTuple):
    """A line for the worker's log."""

    #: for ``logging.makeLogRecord``; the message is already formatted
    attributes: dict[str, Any]
    #: of the exception that is logged
    traceback: str = ""


class RemoteTraceback(Exception):
    """Stands for an exception in the engine's process. Its text is the traceback there."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def send(connection: Connection, messages: list[object]) -> None:
    """Raises OSError when this end or the other is closed. Not thread-safe."""
    connection.send_bytes(pickle.dumps(messages, protocol=pickle.HIGHEST_PROTOCOL))


def receive(connection: Connection) -> list[Any]:
    """Waits for the next messages. Raises EOFError or OSError when the other end is closed."""
    # The other end is a process of ours, and no other has the socket.
    messages: list[Any] = pickle.loads(connection.recv_bytes())  # noqa: S301
    return messages
