"""The interfaces between a worker and its engine, which is the model of this process or an upstream server."""

from __future__ import annotations

from typing import Any, Protocol

from inference.engine.handle import Handle
from inference.engine.vision import ModelVision
from sessions_app.models import ChatSession


class SessionEngine(Protocol):
    """Generates the answers of sessions."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What must be equal on another worker for it to continue a session of this one."""
        ...

    @property
    def vision(self) -> ModelVision | None:
        """The sizes at which the model sees media; None when they are unknown."""
        ...

    @property
    def max_sessions(self) -> int:
        """How many sessions may run at once, without the reserved slots: ``MAX_BATCH_SIZE``, or its default here."""
        ...

    def submit(self, session: ChatSession) -> list[Handle]:
        """Start the session, or continue after its committed tokens. Returns a handle for each requested answer.

        Reads the database. Raises ``EngineError`` or ``ApiError``; later errors are raised by the handles.
        """
        ...

    @property
    def name(self) -> str:
        """The name of its thread."""
        ...

    def is_alive(self) -> bool:
        """Whether its thread runs. Without it, sessions of the worker would be released and claimed again endlessly."""
        ...

    def stats(self) -> Any:
        """The engine's counters, as a dataclass: ``EngineStats`` or ``UpstreamStats``."""
        ...

    def stop(self, timeout_seconds: float) -> bool:
        """End all handles with ``EngineStopped``, and return whether that was done in time. May be called again."""
        ...


class SourceListener(Protocol):
    """The worker, as a source sees it. Its methods may be called from any thread."""

    def engine_pending(self, progress: str) -> None:
        """There is no engine yet, or it is unavailable at the moment. Sessions wait."""
        ...

    def engine_ready(self, engine: SessionEngine) -> None: ...

    def engine_failed(self, reason: str) -> None:
        """There is no engine until an operator acts. ``reason`` is shown to callers."""
        ...


class EngineSource(Protocol):
    """Gets a worker its engine, and reports every change of its state to the listener."""

    def start(self, listener: SourceListener) -> None: ...

    @property
    def name(self) -> str:
        """The name of its thread."""
        ...

    def is_alive(self) -> bool:
        """Whether its thread runs, once started. Without it a reload request would be ignored."""
        ...

    def reload(self) -> None:
        """Try at once to get an engine, if there is none. Safe in a signal handler: takes no lock and logs nothing."""
        ...
