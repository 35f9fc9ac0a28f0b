"""``manage.py workers``: list the workers, drain some, or request a reload of the model."""

from __future__ import annotations

import datetime
import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from inference.models import ModelWorker
from sessions_app.admin.formatting import NONE, rough
from sessions_app.management.finding import find_one
from sessions_app.management.terminal import ExamplesKept, as_json, table

EPILOG = """\
A worker is named by its name or by a beginning that no other has. Each sees what is asked of it at its next heartbeat.

  manage.py workers list
  manage.py workers drain gpu-1 --wait     (then stop the process: no session is interrupted)
  manage.py workers resume gpu-1
"""
POLL_SECONDS = 0.3
FIELDS = (
    *("name", "state", "drain", "model", "running", "progress", "error", "try_again"),
    *("started_at", "heartbeat_at", "is_alive", "is_draining"),
)


class Command(BaseCommand):
    help = "See the model workers, have some take no more sessions, have a model loaded again."

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        return super().create_parser(prog_name, subcommand, epilog=EPILOG, formatter_class=ExamplesKept, **kwargs)

    def add_arguments(self, parser: CommandParser) -> None:
        what = parser.add_subparsers(dest="what", required=True, metavar="{list,drain,resume,reload}")
        listing = what.add_parser("list", help="the workers that are alive", description="The workers that are alive.")
        listing.add_argument("--all", action="store_true", help="also those that stopped within the last day")
        draining = what.add_parser(
            "drain",
            help="let workers finish what they run and take no more",
            description="Let workers finish what they run and take no more. A restarted worker takes sessions again.",
        )
        draining.add_argument(
            "--wait", action="store_true", help="wait until they run nothing; Ctrl+C ends only the waiting"
        )
        resuming = what.add_parser("resume", help="have drained workers take sessions again")
        reloading = what.add_parser("reload", help="load the model again where loading has failed")
        for each in (draining, resuming, reloading):
            each.add_argument("workers", nargs="*", metavar="worker", help="its name, or the beginning of it")
            each.add_argument("--all", action="store_true", help="every worker that is alive")
        for each in (listing, draining, resuming, reloading):
            each.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, what: str, **options: Any) -> None:
        if what == "list":
            workers = ModelWorker.objects.all()
            self._print(list(workers if options["all"] else _living()), options)
            return
        names = [worker.pk for worker in _chosen(options)]
        if not names:
            raise CommandError("No worker is alive.")
        chosen = ModelWorker.objects.filter(pk__in=names)
        if what == "reload":
            # Workers with a loaded model need no reload.
            chosen.filter(state=ModelWorker.State.FAILED).update(try_again=True)
        else:
            chosen.update(drain=what == "drain")
        if what == "drain" and options["wait"]:
            self._wait_until_idle(names)
        self._print(list(chosen), options)
        if not options["json"]:
            self.stderr.write(_news(what, chosen))

    def _wait_until_idle(self, names: list[str]) -> None:
        # ``running`` may have been written before the worker saw the request; two heartbeats later it is current.
        heard_from = timezone.now() + datetime.timedelta(seconds=2 * settings.WORKER_HEARTBEAT_SECONDS)
        try:
            while (
                ModelWorker.objects.alive()
                .filter(pk__in=names)
                .exclude(running=0, heartbeat_at__gt=heard_from)
                .exists()
            ):
                time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            self.stderr.write("\nNot waited for any more; the workers go on draining.")
            raise SystemExit(130) from None

    def _print(self, workers: list[ModelWorker], options: dict[str, Any]) -> None:
        if options["json"]:
            self.stdout.write(as_json([{name: getattr(worker, name) for name in FIELDS} for worker in workers]))
        elif workers:
            self.stdout.write(table(_HEADS, map(_row, workers)))
        else:
            self.stdout.write("No worker is alive.")


def _living() -> Any:
    return ModelWorker.objects.alive().exclude(state=ModelWorker.State.STOPPED)


def _chosen(options: dict[str, Any]) -> list[ModelWorker]:
    if bool(options["workers"]) == options["all"]:
        raise CommandError("Name the workers, or give --all.")
    return list(_living()) if options["all"] else [find_one(_living(), named) for named in options["workers"]]


def _news(what: str, chosen: Any) -> str:
    within = f"within {settings.WORKER_HEARTBEAT_SECONDS:g} s"
    if what == "reload":
        asked = sum(worker.try_again for worker in chosen)
        return f"{asked} of them had failed to load the model, and try again {within}. The others have it."
    return f"They take no more sessions {within}." if what == "drain" else f"They take sessions again {within}."


_HEADS = ("WORKER", "STATE", "RUNNING", "HEARTBEAT", "MODEL", "AT")


def _row(worker: ModelWorker) -> tuple[str, ...]:
    return (
        worker.name,
        worker.condition.value,
        str(worker.running),
        f"{rough(timezone.now() - worker.heartbeat_at)} ago",
        worker.model,
        worker.error or worker.progress or NONE,
    )
