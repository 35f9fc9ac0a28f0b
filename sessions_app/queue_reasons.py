"""Why queued sessions wait, besides their place in the queue. The app that runs the workers supplies the reason."""

from __future__ import annotations

from collections.abc import Callable

_explain: Callable[[], str] | None = None


def explained_by(explain: Callable[[], str]) -> None:
    """``explain`` says in the reader's language what keeps every queued session waiting; "" when nothing does."""
    global _explain
    _explain = explain


def reason() -> str:
    """What keeps all queued sessions waiting, "" when they only wait for their turn. May read the database."""
    return _explain() if _explain is not None else ""
