"""Celery's worker as a process of its own, built from the application.

Not by Celery's command line: that one reads ``APP``, ``BROKER_URL``, ``LOADER``, ``WORKDIR`` and others from the
environment, names that containers use for things of their own.
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


class ModelProcess(CeleryWorker):
    """Celery's signals, but SIGHUP: that one loads the model again, and does not start the process anew."""

    def install_platform_tweaks(self, worker: Any) -> None:
        super().install_platform_tweaks(worker)
        on_hangup(this_worker().try_again)


def run_worker(name: str) -> int:
    """Run until SIGTERM; the exit status. ``name`` is the node's, unique on this host.

    SIGTERM and the first SIGINT hand running sessions back, SIGHUP loads a model again that could not be loaded.
    """
    app = current_app._get_current_object()
    app.finalize()
    app.set_current()
    app.set_default()
    # Threads, because CUDA cannot be used after a fork, and because one model is shared by all of them. Celery's own
    # time limits do not work in this pool; deadlines and cancels are kept by the loop.
    worker = ModelProcess(
        app=app,
        hostname=f"{name}@{gethostname()}",
        pool_cls="threads",
        concurrency=settings.MAX_BATCH_SIZE,
        queues=settings.CELERY_TASK_DEFAULT_QUEUE,
        without_heartbeat=True,
        without_gossip=True,
        without_mingle=True,
        loglevel="WARNING",
        # No banner: what it says of this worker, one line of the log says too.
        quiet=True,
    )
    serve_metrics()
    worker.start()
    return int(worker.exitcode or 0)
