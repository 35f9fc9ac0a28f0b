"""``manage.py worker``: one GPU worker, for the deployment with Redis."""

from __future__ import annotations

from typing import Any

from celery import current_app
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = (
        "Run one model worker: one process, one model, as many sessions at once as MAX_BATCH_SIZE. "
        "Start one for each GPU (choose it with CUDA_VISIBLE_DEVICES)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--name", default="worker", help="node name, unique on this host (default worker)")

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        if not settings.REDIS_URL:
            raise CommandError(
                "REDIS_URL is not set. Without a broker, `manage.py serve` runs web and worker together."
            )
        # Threads, because CUDA cannot be used after a fork, and because one model is shared by all of them. Celery's
        # own time limits do not work in this pool; deadlines and cancels are kept by the loop.
        current_app.worker_main(
            [
                # No banner: what it says of this worker, one line of the log says too.
                "--quiet",
                "worker",
                "--pool=threads",
                f"--concurrency={settings.MAX_BATCH_SIZE}",
                f"--hostname={name}@%h",
                "--queues=generate",
                "--without-gossip",
                "--without-mingle",
                "--without-heartbeat",
                "--loglevel=WARNING",
            ]
        )
