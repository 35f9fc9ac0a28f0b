"""Celery's tasks and signal handlers. They only call ``runner`` and ``lifecycle``."""

from __future__ import annotations

import functools
from typing import Any

from celery import shared_task
from celery.signals import setup_logging, worker_init, worker_shutdown, worker_shutting_down
from django.conf import settings


@shared_task(name="inference.tasks.run_session", ignore_result=True)
def run_session(session_id: str) -> None:
    """Have this worker claim what waits: this session, or others whose turn comes first. May be delivered twice."""
    # The web processes import this module too, and need nothing of a worker.
    from inference.worker import runner
    from inference.worker.lifecycle import this_worker

    runner.take_message(session_id, this_worker())


@setup_logging.connect
def keep_logging(**kwargs: Any) -> None:
    """Does nothing: a receiver of this signal keeps Celery from changing Django's logging."""


@worker_init.connect
def start_worker(sender: Any, **kwargs: Any) -> None:
    from inference.worker.lifecycle import this_worker
    from inference.worker.runner import claim_next, run_claimed

    worker = this_worker()
    worker.start(sender, functools.partial(claim_next, worker), functools.partial(run_claimed, worker))


@worker_shutting_down.connect
def drain_worker(**kwargs: Any) -> None:
    from inference.worker.lifecycle import this_worker
    from inference.worker.stopping import end_by_force

    end_by_force(settings.WORKER_STOP_SECONDS)
    this_worker().drain()


@worker_shutdown.connect
def stop_worker(**kwargs: Any) -> None:
    from inference.worker.lifecycle import this_worker

    this_worker().stop()
