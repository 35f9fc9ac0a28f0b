"""What a caller holds while its request is generated."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from inference.engine.errors import EngineError
from inference.engine.types import Delta, Finish


class Receiver(Protocol):
    """Where a handle puts what its generation gives."""

    def put(self, item: Delta | Finish | EngineError, /) -> None:
        """Called with the handle's lock held, on the thread that generates: it must be quick, and not raise."""
        ...


class Handle:
    """Iterates over the Deltas of one generation and, last, its Finish.

    Iterating blocks until something comes, and raises an EngineError when the generation fails. Every handle ends:
    with a Finish or with an error, exactly once, whoever is first.
    """

    def __init__(self, on_close: Callable[[Handle], None], *, resumed_tokens: int = 0) -> None:
        self._on_close = on_close
        self._items: queue.SimpleQueue[Delta | Finish | EngineError] = queue.SimpleQueue()
        self._receiver: Receiver = self._items
        self._lock = threading.Lock()
        self._closed = False
        self._drained = False
        self._prompt_tokens = 0
        self._completion_tokens = resumed_tokens
        self._reasoning_tokens = 0

    def __iter__(self) -> Iterator[Delta | Finish]:
        return self

    def __next__(self) -> Delta | Finish:
        if self._drained:
            raise StopIteration
        item = self._items.get()
        if not isinstance(item, Delta):
            self._drained = True
        if isinstance(item, EngineError):
            raise item
        return item

    def cancel(self) -> None:
        """End the generation with Finish("cancelled") now, wherever it is; does nothing when it has ended.

        Text held back for a possible stop string is not delivered then.
        """
        with self._lock:
            if self._closed:
                return
            item = Finish("cancelled", self._prompt_tokens, self._completion_tokens, self._reasoning_tokens)
            self._close(item)
        self._on_close(self)

    def send_to(self, receiver: Receiver) -> None:
        """Give ``receiver`` everything that was not read yet and all that follows; do not iterate any more."""
        with self._lock:
            while not self._items.empty():
                receiver.put(self._items.get())
            self._receiver = receiver

    @property
    def closed(self) -> bool:
        """Whether the generation has ended, so that the engine need not go on with it."""
        return self._closed

    def prepared(self, *, prompt_tokens: int, reasoning_tokens: int) -> None:
        """For the engine: what is known before the first token."""
        with self._lock:
            self._prompt_tokens = prompt_tokens
            self._reasoning_tokens = reasoning_tokens

    def put(self, delta: Delta, *, reasoning_tokens: int) -> None:
        """For the engine: the next delta; dropped when the generation has ended."""
        with self._lock:
            if not self._closed:
                self._completion_tokens += len(delta.token_ids)
                self._reasoning_tokens = reasoning_tokens
                self._receiver.put(delta)

    def finish(self, item: Finish | EngineError) -> None:
        """For the engine: the end; the first end counts."""
        with self._lock:
            if self._closed:
                return
            self._close(item)
        self._on_close(self)

    def _close(self, item: Finish | EngineError) -> None:
        self._closed = True
        self._receiver.put(item)
