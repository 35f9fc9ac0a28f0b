"""Run Celery's worker as a process, built from the application and not by Celery's command line.

The command line reads ``APP``, ``BROKER_URL``, ``LOADER``, ``WORKDIR`` and others from the environment, names that
containers use for other things.
"""

from __future__ import annotations

from socket import gethostname
from typing import Any

from celery import current_app
from celery.apps.worker import Worker as CeleryWorker
from django.conf import settings

from inference.worker.hangup import on_hangup
from inference.worker.lifecycle import this_worker
from inference.worker.metrics import serve_metrics
from inference.worker.stopping import FAILED


class ModelProcess(CeleryWorker):
    """A Celery worker whose SIGHUP loads the model again instead of restarting the process."""

    def install_platform_tweaks(self, worker: Any) -> None:
        super().install_platform_tweaks(worker)
        on_hangup(this_worker().reload)


def run_worker(name: str) -> int:
    """Run until SIGTERM, and return the exit status. ``name`` is the node's, unique on this host.

    SIGTERM and the first SIGINT release the running sessions. SIGHUP retries a load that has failed.
    """
    app = current_app._get_current_object()
    app.finalize()
    app.set_current()
    app.set_default()
    # Threads, because all tasks share one engine. Celery's time limits do not work in this pool, and no task needs one.
    worker = ModelProcess(
        app=app,
        hostname=f"{name}@{gethostname()}",
        pool_cls="threads",
        # Tasks only wake the worker. While one waits for a free slot, Celery prefetches one more, and leaves later ones
        # to others.
        concurrency=1,
        queues=settings.CELERY_TASK_DEFAULT_QUEUE,
        without_heartbeat=True,
        without_gossip=True,
        without_mingle=True,
        loglevel="WARNING",
        # No banner: one log line has the same information.
        quiet=True,
    )
    serve_metrics()
    worker.start()
    return FAILED if this_worker().has_failed else int(worker.exitcode or 0)
