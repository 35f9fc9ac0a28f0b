"""The interfaces between a worker and its engine, which is a local model or an upstream server."""

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

    def stats(self) -> Any:
        """The engine's counters, as a dataclass: ``EngineStats`` or ``UpstreamStats``."""
        ...


class SourceListener(Protocol):
    """The worker, as a source sees it. Its methods may be called from any thread."""

    def engine_pending(self, progress: str) -> None:
        """There is no engine yet, or it is unavailable at the moment. Sessions wait.

        ``progress`` is shown to callers and operators: how far loading is, or why the model is loaded again.
        """
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
        """Whether its thread runs, once started. Without it a lost engine is never replaced, and nobody is told."""
        ...

    def reload(self) -> None:
        """Try at once to get an engine, if there is none. Safe in a signal handler: takes no lock and logs nothing."""
        ...

    def stop(self, timeout_seconds: float) -> bool:
        """End all handles of the engine with ``EngineStopped``, and get no other engine.

        Returns whether that was done in time. May be called again.
        """
        ...
