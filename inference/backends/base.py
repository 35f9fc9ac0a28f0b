"""The interfaces between a worker and what generates for it: the model of this process, or another server."""

from __future__ import annotations

from typing import Any, Protocol

from inference.engine.handle import Handle
from inference.engine.vision import ModelVision
from sessions_app.models import ChatSession


class SessionEngine(Protocol):
    """Generates the answers of sessions."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What another worker must have in common to continue a text that this one began."""
        ...

    @property
    def vision(self) -> ModelVision | None:
        """What the model sees; None where that is unknown."""
        ...

    def submit(self, session: ChatSession) -> list[Handle]:
        """Begin the session, or continue after its committed tokens: a handle for each answer that it wants.

        Reads the database. Raises ``EngineError`` or ``ApiError``; later errors are raised by the handles.
        """
        ...

    @property
    def name(self) -> str:
        """Of its thread."""
        ...

    def is_alive(self) -> bool:
        """Whether its thread runs. Without it every session of the worker would be released and claimed for ever."""
        ...

    def stats(self) -> Any:
        """Its counts, as a dataclass: ``EngineStats`` or ``UpstreamStats``."""
        ...

    def stop(self, timeout_seconds: float) -> bool:
        """End all handles with ``EngineStopped``, and return whether that was done in time. May be called again."""
        ...


class SourceListener(Protocol):
    """The worker, as a source sees it. Its methods may be called from any thread."""

    def engine_pending(self, progress: str) -> None:
        """There is no engine yet, or not at the moment. Sessions wait."""
        ...

    def engine_ready(self, engine: SessionEngine) -> None: ...

    def engine_failed(self, reason: str) -> None:
        """There is no engine until an operator acts. ``reason`` is shown to callers."""
        ...


class EngineSource(Protocol):
    """Gets a worker its engine, and reports every change of its state to the listener."""

    def start(self, listener: SourceListener) -> None: ...

    def reload(self) -> None:
        """Try at once to get an engine, if there is none. Safe in a signal handler: takes no lock and logs nothing."""
        ...
