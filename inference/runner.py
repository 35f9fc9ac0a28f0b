"""Run one session: claim it, feed the engine, hand what comes out to the writer, close it. Knows no Celery."""

from __future__ import annotations

import logging
from typing import Any

from django.db import InterfaceError, OperationalError

from inference.chunk_writer import Run
from inference.engine.errors import EngineError, EngineStopped, InvalidPrompt, PromptTooLong
from inference.engine.types import Finish
from inference.errors import ApiError
from inference.refusals import refuse_session
from inference.worker import STOP_SECONDS, Worker
from sessions_app import actions
from sessions_app.actions import Closing
from sessions_app.db import release_connections
from sessions_app.models import ChatSession
from sessions_app.request_id import request_id_scope

log = logging.getLogger(__name__)

#: a queued session waits here for the model; loading a large one from a slow disk takes minutes
LOAD_WAIT_SECONDS = 1800.0
#: the closing of a session waits this long for a database that is away
CLOSE_SECONDS = 600.0


def run_session(session_id: str, worker: Worker) -> None:
    """Run the session to its end, unless another worker has it or this one is told to stop."""
    worker.settled.wait(LOAD_WAIT_SECONDS)
    if worker.draining.is_set():
        worker.strand(session_id)
        return
    if worker.load_error is not None:
        if not refuse_session(session_id, worker.load_error):
            worker.strand(session_id)
        return
    if not worker.settled.is_set():
        # The model took too long, or is loaded again since.
        worker.strand(session_id)
        return
    session = actions.claim(session_id, worker=worker.name)
    if session is None:
        return
    with request_id_scope(session.request_id):
        _run_claimed(session, worker)


def _run_claimed(session: ChatSession, worker: Worker) -> None:
    log.info("session %s: attempt %d begins at chunk %d", session.pk, session.attempt, session.next_index)
    handle = None

    def stop() -> None:
        if handle is None:
            return
        if run.is_lost:
            # Nobody wants it cancelled: another worker goes on with it.
            handle.finish(EngineStopped())
        else:
            handle.cancel()

    run = worker.writer.open(session.pk, session.attempt, session.next_index, stop)
    try:
        if session.cancel_requested_at is not None:
            run.cancel()
        if error := _splice_error(session, worker):
            _close(run, Closing(error=error))
            return
        handle = worker.engine.submit(session)
        # From here on this thread holds no connection: the writer has its own.
        release_connections()
        if run.is_cancelled or run.is_lost:
            stop()
        for item in handle:
            if isinstance(item, Finish):
                _finish(run, item, worker)
            else:
                run.add(item)
    except EngineStopped:
        _hand_back(run, worker)
    except (PromptTooLong, InvalidPrompt) as exc:
        _close(run, Closing(error=_request_error(exc), error_status=400))
    except ApiError as exc:
        _close(run, Closing(error=exc.as_dict(), error_status=exc.status))
    except EngineError as exc:
        log.exception("session %s: the engine failed", session.pk)
        _close(run, Closing(error=_server_error(f"The generation failed: {exc}")))
    except (InterfaceError, OperationalError) as exc:
        # Not the session's fault: its lease lapses, and whoever reaches the database goes on with it.
        log.warning("session %s: attempt %d could not read it: %s", session.pk, session.attempt, exc)
    except Exception:
        log.exception("session %s failed", session.pk)
        _close(run, Closing(error=_server_error("The generation failed. The log of the worker has the details.")))
    finally:
        worker.writer.forget(run)
        release_connections()


def _splice_error(session: ChatSession, worker: Worker) -> dict[str, Any] | None:
    """Refuse to go on with a text that other weights began; note this worker's when it is the first."""
    mine = worker.engine.fingerprint
    if not session.fingerprint:
        actions.record_fingerprint(session.pk, session.attempt, mine)
        return None
    if session.next_index <= 1 or session.fingerprint == mine:
        return None
    names = mine.keys() | session.fingerprint.keys()
    differing = ", ".join(sorted(name for name in names if session.fingerprint.get(name) != mine.get(name)))
    return _server_error(
        f"The worker that began this answer is gone, and the one that took over differs in: {differing}. "
        "Send the request again under a new session_id."
    )


def _finish(run: Run, finish: Finish, worker: Worker) -> None:
    if finish.reason == "cancelled" and not run.is_cancelled:
        _hand_back(run, worker)  # stopped from inside: lost, or draining
        return
    _close(
        run,
        Closing(
            reason=finish.reason,
            prompt_tokens=finish.prompt_tokens,
            completion_tokens=finish.completion_tokens,
            reasoning_tokens=finish.reasoning_tokens,
        ),
    )


def _close(run: Run, closing: Closing) -> None:
    run.close(closing)
    # The writer has a connection of its own; this thread needs none while it waits.
    release_connections()
    if not run.done.wait(CLOSE_SECONDS):
        log.error("session %s could not be closed; its lease will lapse", run.session_id)


def _hand_back(run: Run, worker: Worker) -> None:
    """Give the session to another worker with every token committed; a lost one is not ours to give."""
    if worker.writer.flush(run, STOP_SECONDS) and actions.release(run.session_id, run.attempt):
        log.info("session %s: attempt %d hands it back", run.session_id, run.attempt)


def _request_error(exc: EngineError) -> dict[str, Any]:
    code = "context_length_exceeded" if isinstance(exc, PromptTooLong) else "invalid_request"
    return {"message": str(exc), "type": "invalid_request_error", "param": "messages", "code": code}


def _server_error(message: str) -> dict[str, Any]:
    return {"message": message, "type": "server_error", "param": None, "code": "generation_failed"}
