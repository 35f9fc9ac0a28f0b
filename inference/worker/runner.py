"""Run a session: claim it, submit it to the engine, pass its deltas to the writer, close it. Does not need Celery."""

from __future__ import annotations

import logging
import queue
from collections.abc import Sequence

from django.db import InterfaceError, OperationalError

from inference.engine.errors import (
    EngineError,
    EngineLost,
    EngineStopped,
    InvalidConstraint,
    InvalidPrompt,
    InvalidSampling,
    PromptTooLong,
    ToolsUnknown,
)
from inference.engine.handle import Handle
from inference.engine.types import Delta, Finish, FinishReason
from inference.errors import ApiError, GenerationFailed, InvalidRequest
from inference.metrics import AttemptTimes
from inference.worker.attempt import Attempt
from inference.worker.lifecycle import Worker
from inference.worker.refusals import refuse_session
from sessions_app import privacy
from sessions_app.db import release_connections
from sessions_app.encryption.sealed import check_readable
from sessions_app.log_context import attempt_scope
from sessions_app.log_lines import short_id
from sessions_app.models import ChatSession
from sessions_app.request_id import request_id_scope
from sessions_app.store import transitions
from sessions_app.store.appending import Closing
from sessions_app.store.queue import send
from sessions_app.turns import Slot

log = logging.getLogger(__name__)

#: finish reason of a session with several answers: the first entry of this list that any answer has
REASONS_OF_ALL: tuple[FinishReason, ...] = ("cancelled", "content_filter", "length", "tool_calls", "stop")

#: how long a task waits for the model: loading a large one from a slow disk takes minutes
LOAD_WAIT_SECONDS = 1800.0
#: interval at which a task that waits for a slot checks whether the worker is stopping
SLOT_POLL_SECONDS = 1.0
#: pause before a worker without a model requeues a message: it may get the message again, and must not loop busily
PASS_ON_SECONDS = 0.25
#: how long a task waits for the commit of its closing while the database is unavailable
CLOSE_SECONDS = 600.0


def take_message(session_id: str, worker: Worker) -> None:
    """Wait for the model and for a free slot, and have the worker claim the sessions whose turn it is.

    A message only means that sessions are waiting, not that ``session_id`` must run next. If each message ran its own
    session, callers would not take turns, and a session whose message was lost would wait for all later ones. While no
    slot is free the message is held, so that later ones, but for one that Celery prefetches, are left to other workers.
    """
    worker.settled.wait(LOAD_WAIT_SECONDS)
    if worker.load_error is not None:
        if not refuse_session(session_id, worker.load_error):
            # Another worker has the model. This one leaves the queue at its next heartbeat.
            worker.draining.wait(PASS_ON_SECONDS)
            send(session_id)
        return
    while worker.has_engine:
        if worker.slots.acquire(timeout=SLOT_POLL_SECONDS):
            worker.slots.release()
            worker.look_for_sessions()
            return


def claim_next(worker: Worker, slot: Slot, limit: int) -> list[ChatSession]:
    """Claim up to ``limit`` sessions whose turn it is. The caller holds as many slots of this kind."""
    if not worker.has_engine:
        return []
    return transitions.claim_next(worker=worker.name, fingerprint=worker.engine.fingerprint, slot=slot, limit=limit)


def run_claimed(worker: Worker, session: ChatSession) -> None:
    """Run a session that this worker has claimed, to its end."""
    with request_id_scope(session.request_id), attempt_scope(session.pk, session.attempt):
        _run(session, worker)


def _run(session: ChatSession, worker: Worker) -> None:
    log.info("session %s: attempt %d begins at chunk %d", short_id(session.pk), session.attempt, session.next_index)
    times = AttemptTimes(session)
    is_sealed = privacy.is_sealed(session.origin)
    attempt = worker.writer.open(session.pk, session.attempt, session.next_index, times, is_sealed=is_sealed)
    engine_is_lost = False
    try:
        if session.cancel_requested_at is not None:
            attempt.cancel()
        check_readable(session.request)
        _check_fingerprint(session, worker)
        handles = worker.engine.submit(session)
        attempt.generates(handles)
        # From here on this thread needs no connection: the writer has its own.
        release_connections()
        _finish(attempt, _ends_of(handles, attempt), worker)
    except EngineStopped:
        _release(attempt, worker)
    except EngineLost:
        # Not released: a session that makes the engine end must run out of attempts, which expired leases count.
        engine_is_lost = True
        log.warning("session %s: attempt %d has lost its engine", short_id(session.pk), session.attempt)
    except (PromptTooLong, InvalidPrompt, InvalidSampling, InvalidConstraint) as exc:
        _close(attempt, Closing.failed(_invalid_request(exc)))
    except ApiError as exc:
        _close(attempt, Closing.failed(exc))
    except EngineError as exc:
        log.exception("session %s: the engine failed", short_id(session.pk))
        _close(attempt, Closing.failed(GenerationFailed(f"The generation failed: {exc}")))
    except (InterfaceError, OperationalError) as exc:
        # The session did not cause this. Its lease expires, and a worker that reaches the database continues it.
        log.warning("session %s: attempt %d could not read the session: %s", short_id(session.pk), session.attempt, exc)
    except Exception:
        log.exception("session %s failed", short_id(session.pk))
        failure = GenerationFailed("The generation failed. The log of the worker has the details.")
        _close(attempt, Closing.failed(failure))
    finally:
        attempt.stop()  # cancels the other choices when one has failed
        worker.writer.forget(attempt)
        times.ended("fenced" if attempt.is_fenced else "lost" if engine_is_lost else "released")
        release_connections()


class _Feed:
    """Passes an answer's deltas to the writer on the thread that reads them, so that no other wakes for each token."""

    def __init__(
        self, attempt: Attempt, choice: int, ends: queue.SimpleQueue[tuple[int, Finish | EngineError]]
    ) -> None:
        self._attempt = attempt
        self._choice = choice
        self._ends = ends

    def put(self, item: Delta | Finish | EngineError, /) -> None:
        if isinstance(item, Delta):
            self._attempt.add(item, self._choice)
        else:
            self._ends.put((self._choice, item))


def _ends_of(handles: Sequence[Handle], attempt: Attempt) -> list[Finish]:
    """Wait until every answer has ended. Raises the first error."""
    ends: queue.SimpleQueue[tuple[int, Finish | EngineError]] = queue.SimpleQueue()
    for choice, handle in enumerate(handles):
        handle.send_to(_Feed(attempt, choice, ends))
    finishes: dict[int, Finish] = {}
    while len(finishes) < len(handles):
        choice, end = ends.get()
        if isinstance(end, EngineError):
            raise end
        finishes[choice] = end
    return [finishes[choice] for choice in range(len(handles))]


def _check_fingerprint(session: ChatSession, worker: Worker) -> None:
    """Raise ``GenerationFailed`` if the session was started with another fingerprint, such as other weights."""
    mine = worker.engine.fingerprint
    if session.fingerprint in (mine, {}):
        return
    names = mine.keys() | session.fingerprint.keys()
    differing = ", ".join(sorted(name for name in names if session.fingerprint.get(name) != mine.get(name)))
    raise GenerationFailed(
        f"The worker that began this answer was lost, and the one that took over differs in: {differing}. "
        "Send the request again under a new session_id."
    )


def _finish(attempt: Attempt, finishes: Sequence[Finish], worker: Worker) -> None:
    """Close the session. ``finishes`` are those of all its choices."""
    reasons = [finish.reason for finish in finishes]
    if "cancelled" in reasons and not attempt.is_cancelled:
        _release(attempt, worker)  # the worker stopped it: it is fenced, or draining
        return
    _close(
        attempt,
        Closing(
            reason=next(reason for reason in REASONS_OF_ALL if reason in reasons),
            reasons=tuple(reasons) if len(reasons) > 1 else (),
            # All choices have the same prompt. One that was cancelled before prefill reports 0.
            prompt_tokens=max(finish.prompt_tokens for finish in finishes),
            completion_tokens=sum(finish.completion_tokens for finish in finishes),
            reasoning_tokens=sum(finish.reasoning_tokens for finish in finishes),
            # Further choices hit the prefix cache that the first one filled, so only the first one's count is reported.
            cached_tokens=finishes[0].cached_tokens,
        ),
    )


def _close(attempt: Attempt, closing: Closing) -> None:
    attempt.close(closing)
    # The writer has its own connection, and this thread needs none while it waits.
    release_connections()
    if not attempt.done.wait(CLOSE_SECONDS):
        log.error("session %s could not be closed; its lease will expire", short_id(attempt.session_id))


def _release(attempt: Attempt, worker: Worker) -> None:
    """Release the session to another worker once every token is committed, unless this attempt is fenced."""
    if worker.writer.flush(attempt, worker.seconds_left) and transitions.release(attempt.session_id, attempt.number):
        log.info("session %s: attempt %d released it", short_id(attempt.session_id), attempt.number)


def _invalid_request(exc: EngineError) -> InvalidRequest:
    code = "context_length_exceeded" if isinstance(exc, PromptTooLong) else "invalid_request"
    param: str | None
    match exc:
        case InvalidSampling():
            param = exc.field
        case ToolsUnknown():
            param = "tools"
        case InvalidConstraint():
            param = None  # one of several parameters has asked for it
        case _:
            param = "messages"
    return InvalidRequest(str(exc), param=param, code=code)
