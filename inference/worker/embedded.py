"""Web and worker in one process: Daphne on the main thread, Celery's worker on another, an in-process broker between.

Messages in the broker are lost with the process. The sessions are in the database, where the next process finds them.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator

from celery import current_app
from celery.worker import WorkController, state
from django.conf import settings

from inference.worker.hangup import on_hangup
from inference.worker.lifecycle import this_worker
from inference.worker.stopping import FAILED, end_by_force
from sessions_app.web_server import run_web_server

log = logging.getLogger(__name__)


def serve(*, host: str, port: int, on_ready: Callable[[], None]) -> int:
    """Run until SIGINT or SIGTERM, release the running sessions for the next start, and return the exit status.

    SIGHUP tries again to load a model that failed to load. ``on_ready`` is called when the server is about to listen.
    Raises ``PortTaken``.
    """
    on_hangup(this_worker().reload)
    with contextlib.ExitStack() as running:

        def begin() -> None:
            running.enter_context(_celery_thread())
            on_ready()

        run_web_server(host=host, port=port, on_ready=begin)
    return FAILED if this_worker().has_failed else 0


@contextlib.contextmanager
def _celery_thread() -> Iterator[None]:
    app = current_app._get_current_object()
    # Without these three the controller receives tasks and silently never runs them.
    app.finalize()
    app.set_current()
    app.set_default()
    # It sends worker_init now and worker_shutdown when it ends; `inference.tasks` starts and stops the worker on these.
    controller = WorkController(
        app=app,
        pool_cls="threads",
        # Tasks only wake the worker. While one waits for a free slot, Celery prefetches one more, and leaves later ones
        # to others.
        concurrency=1,
        without_heartbeat=True,
        without_gossip=True,
        without_mingle=True,
        loglevel="WARNING",
    )
    thread = threading.Thread(target=controller.start, name="celery-worker", daemon=True)
    thread.start()
    try:
        yield
    finally:
        log.info("stopping: running sessions are released")
        this_worker().drain()
        end_by_force(settings.WORKER_STOP_SECONDS)
        # As Celery's signal handlers do. The consumer checks it twice a second.
        state.should_stop = os.EX_OK
        thread.join(this_worker().seconds_left)
        state.should_stop = None
