"""A generation as its caller sees it: its deltas, its end, and the means to cancel it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Protocol

from inference.engine.errors import EngineError
from inference.engine.types import Delta, Finish


class Receiver(Protocol):
    """Receives the items of a generation."""

    def put(self, item: Delta | Finish | EngineError, /) -> None:
        """Called with the handle's lock held, on the thread that delivers: it must be quick, and not raise."""
        ...


class HandleMaker(Protocol):
    """``Handle``, or a function that makes one of a subclass."""

    def __call__(self, on_close: Callable[[Handle], None], /, *, resumed_tokens: int) -> Handle: ...


class Handle:
    """Iterates over the Deltas of one generation and, last, its Finish.

    Iterating blocks until the next item, and raises an EngineError when the generation fails. Every handle ends exactly
    once, with a Finish or with an error; the first end wins.
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
        """End the generation with Finish("cancelled") now, at any stage; does nothing when it has ended.

        The model thread removes its row before the next step (``Batch.drop_closed``). Text held back for a possible
        stop string is not delivered.
        """
        with self._lock:
            if self._closed:
                return
            item = Finish("cancelled", self._prompt_tokens, self._completion_tokens, self._reasoning_tokens)
            self._close(item)
        self._on_close(self)

    def send_to(self, receiver: Receiver) -> None:
        """Pass all unread items and all later ones to ``receiver``. The handle must not be iterated any more."""
        with self._lock:
            while not self._items.empty():
                receiver.put(self._items.get())
            self._receiver = receiver

    @property
    def closed(self) -> bool:
        """Whether the generation has ended, so that the engine need not continue it."""
        return self._closed

    def prepared(self, *, prompt_tokens: int, reasoning_tokens: int) -> None:
        """For the engine: set the counts that are known before the first token."""
        with self._lock:
            self._prompt_tokens = prompt_tokens
            self._reasoning_tokens = reasoning_tokens

    def put(self, delta: Delta, *, reasoning_tokens: int) -> None:
        """For the engine: deliver the next delta; it is dropped when the generation has ended."""
        with self._lock:
            if not self._closed:
                self._completion_tokens += len(delta.token_ids)
                self._reasoning_tokens = reasoning_tokens
                self._receiver.put(delta)

    def finish(self, item: Finish | EngineError) -> None:
        """For the engine: end the generation; the first end wins."""
        with self._lock:
            if self._closed:
                return
            self._close(item)
        self._on_close(self)

    def _close(self, item: Finish | EngineError) -> None:
        self._closed = True
        self._receiver.put(item)
