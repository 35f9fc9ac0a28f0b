"""What Celery calls. The bodies are short: the work is in ``runner`` and ``worker``."""

from __future__ import annotations

from typing import Any

from celery import shared_task
from celery.signals import setup_logging, worker_init, worker_ready, worker_shutdown, worker_shutting_down


@shared_task(name="inference.tasks.run_session", ignore_result=True)
def run_session(session_id: str) -> None:
    """Run one session. A second delivery finds it claimed and does nothing."""
    # The web processes import this module too, and must not pay for torch.
    from inference import runner
    from inference.worker import this_worker

    runner.run_session(session_id, this_worker())


@setup_logging.connect
def keep_logging(**kwargs: Any) -> None:
    """That somebody listens to this signal makes Celery leave Django's logging as it is."""


@worker_init.connect
def start_worker(sender: Any, **kwargs: Any) -> None:
    from inference.worker import this_worker

    this_worker().start(sender)


@worker_ready.connect
def hear_hangups(**kwargs: Any) -> None:
    """Only now: Celery has set its own handler before, which starts the whole process again."""
    from inference.hangup import on_hangup
    from inference.worker import this_worker

    on_hangup(this_worker().try_again)


@worker_shutting_down.connect
def drain_worker(**kwargs: Any) -> None:
    from inference.worker import this_worker

    this_worker().drain()


@worker_shutdown.connect
def stop_worker(**kwargs: Any) -> None:
    from inference.worker import this_worker

    this_worker().stop()
