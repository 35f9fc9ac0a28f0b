"""Sessions in any state, brought there by the same actions that the web and the workers use."""

from __future__ import annotations

import datetime
import hashlib
from typing import Any

from django.utils import timezone

from sessions_app.deltas import TextDelta
from sessions_app.models import ChatSession, Chunk
from sessions_app.store import appending, opening, transitions
from sessions_app.store.appending import Append, Closing, Piece
from sessions_app.store.opening import NewMedia
from sessions_app.turns import Slot

WORKER = "gpu-host:4711:abc"
#: one white pixel
TINY_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415478da63f8ffff3f0005fe02fe"
    "0def46b80000000049454e44ae426082"
)


def open_session(text: str = "What is this?", *, media: list[NewMedia] | None = None, **columns: Any) -> ChatSession:
    media = media or []
    content = [{"type": "text", "text": text}, *({"type": item.kind} for item in media)]
    request = {"messages": [{"role": "user", "content": content}], "sampling": {"seed": 42}}
    session, _ = opening.open_session(
        **{"request": request, "request_digest": "digest", "model": "tiny", "media": media, **columns}
    )
    return session


def png(content_type: str = "image/png") -> NewMedia:
    return NewMedia("image", content_type, hashlib.sha256(TINY_PNG).hexdigest(), TINY_PNG)


def claimed(session: ChatSession, **noted: Any) -> ChatSession:
    running = transitions.claim(session.pk, worker=WORKER, fingerprint=noted)
    assert running is not None
    return running


def claimed_next(worker: str = "w", slot: Slot = Slot.COMMON) -> ChatSession | None:
    """The session whose turn it is, claimed; None when none waits."""
    return next(iter(transitions.claim_next(worker=worker, slot=slot)), None)


def say(session: ChatSession, *deltas: TextDelta, closing: Closing | None = None) -> None:
    """What the session's worker would commit next, a token for each delta."""
    session.refresh_from_db(fields=["attempt", "next_index"])
    pieces = [Piece(delta, [7]) for delta in deltas]
    assert not appending.append([Append(session.pk, session.attempt, session.next_index, pieces, closing)])


def text(value: str) -> TextDelta:
    return {"type": "text", "text": value}


def reasoning(value: str) -> TextDelta:
    return {"type": "reasoning", "text": value}


def completed(answer: str = "A plate.", **columns: Any) -> ChatSession:
    session = claimed(open_session(**columns))
    closing = Closing(reason="stop", prompt_tokens=12, completion_tokens=3)
    say(session, reasoning("Let me look."), text(answer), closing=closing)
    session.refresh_from_db()
    return session


def failed(message: str = "The worker was lost.") -> ChatSession:
    session = claimed(open_session())
    say(session, text("A pl"), closing=Closing(error={"message": message, "code": "worker_lost"}))
    session.refresh_from_db()
    return session


def expire_lease(session: ChatSession) -> None:
    ChatSession.objects.filter(pk=session.pk).update(lease_expires_at=timezone.now() - datetime.timedelta(seconds=1))


def log_of(session: ChatSession) -> list[tuple[int, str]]:
    """The chunks: index, and text or type."""
    rows = Chunk.objects.after(session.pk, -1).values_list("index", "delta")
    return [(index, delta.get("text", delta["type"])) for index, delta in rows]


def append(session: ChatSession, *texts: str, index: int | None = None, **fields: Any) -> bool:
    """Append as the session's worker; False when it is lost."""
    at = session.next_index if index is None else index
    pieces = [Piece(text(value), [ord(value[0])]) for value in texts]
    if appending.append([Append(session.pk, session.attempt, at, pieces, **fields)]):
        return False
    session.next_index = at + len(pieces)
    return True


def check_log(session: ChatSession) -> None:
    """The invariants of every log, whatever happened to it."""
    session.refresh_from_db()
    chunks = list(Chunk.objects.after(session.pk, -1))
    assert [chunk.index for chunk in chunks] == list(range(session.next_index))
    assert [chunk.is_terminal for chunk in chunks[:-1]] == [False] * (len(chunks) - 1)
    assert chunks[-1].is_terminal == session.is_finished
    assert (session.finished_at is not None) == session.is_finished
