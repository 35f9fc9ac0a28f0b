"""``manage.py worker``: run one GPU worker, for the deployment with Redis."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    help = (
        "Run one model worker: one model, in a child process, as many sessions at once as fit (see MAX_BATCH_SIZE). "
        "Start one for each GPU (choose it with CUDA_VISIBLE_DEVICES)."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--name", default="worker", help="node name, unique on this host (default worker)")

    def handle(self, *args: Any, name: str, **options: Any) -> None:
        if not settings.REDIS_URL:
            raise CommandError(
                "REDIS_URL is not set. Without a broker, `manage.py serve` runs web and worker together."
            )
        # Imported here, so that --help and the error above appear at once.
        from inference.worker.celery_worker import run_worker
        from inference.worker.stopping import end_now

        end_now(run_worker(name))
