"""What a worker and its runner know of whatever generates: the model of this process, or another server."""

from __future__ import annotations

from typing import Any, Protocol

from django.conf import settings

from inference.engine.handle import Handle
from inference.engine.vision import ModelVision
from sessions_app.models import ChatSession


class SessionEngine(Protocol):
    """Generates the answers of sessions."""

    @property
    def fingerprint(self) -> dict[str, Any]:
        """What another worker must share to go on with a text that this one began."""
        ...

    @property
    def vision(self) -> ModelVision | None:
        """What the model sees; None where that is not known, or not looked at here."""
        ...

    def submit(self, session: ChatSession) -> list[Handle]:
        """Begin, or go on behind what is committed: a handle for each answer that the session wants.

        Reads the database; what fails later is raised by the handles.

        Raises ``EngineError`` or ``ApiError``.
        """
        ...

    def stats(self) -> Any:
        """A dataclass with what it counts: ``EngineStats`` or ``UpstreamStats``."""
        ...

    def stop(self, timeout_seconds: float) -> bool:
        """End all handles with ``EngineStopped``; whether that was done in time. May be called again."""
        ...


class SourceListener(Protocol):
    """The worker, as a source sees it. Called from any thread."""

    def engine_pending(self, progress: str) -> None:
        """There is no engine yet, or not for the moment; sessions wait."""
        ...

    def engine_ready(self, engine: SessionEngine) -> None: ...

    def engine_failed(self, reason: str) -> None:
        """There is none until something is mended; ``reason`` is fit for callers to read."""
        ...


class EngineSource(Protocol):
    """Brings a worker its engine, and says what becomes of it."""

    def start(self, listener: SourceListener) -> None: ...

    def reload(self) -> None:
        """Try at once to get an engine, if there is none. Safe in a signal handler: takes no lock and logs nothing."""
        ...


def engine_source() -> EngineSource:
    """The one that ``INFERENCE_ENGINE`` names."""
    # Imported only here: the one needs torch, and the other is there for processes that have none.
    if settings.INFERENCE_ENGINE == "openai":
        from inference.backends.upstream.source import UpstreamSource

        return UpstreamSource()
    from inference.backends.local import LocalSource

    return LocalSource()
