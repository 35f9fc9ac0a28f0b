"""``manage.py serve``: run web server and worker in one process, for one machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError

from inference.management.database import open_database
from sessions_app.management.arguments import port_number

WELCOME = """
Sambung {version} is listening. The model loads in the background; requests wait for it.

  API base     {base}/v1
  API docs     {base}/docs
  KTP form     {base}/ocr/
  Admin        {base}/admin/
  Health       {base}/health
{extra}
Try it:

  curl -N {base}/v1/chat/completions {key}-H 'Content-Type: application/json' \\
    -d '{{"messages": [{{"role": "user", "content": "Halo!"}}], "stream": true, "max_tokens": 100}}'

Ctrl-C stops it; unfinished sessions go on at the next start.
"""


class Command(BaseCommand):
    help = (
        "Run web server and model worker in one process, with an in-process broker. "
        "HOST, PORT, MODEL_REPO_ID and everything else come from the environment or the .env file."
    )

    #: lines that ``demo`` adds to the welcome
    stealth_options = ("extra",)

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default=settings.HOST, help=f"address to listen on (default {settings.HOST})")
        parser.add_argument("--port", type=port_number, default=settings.PORT, help=f"port (default {settings.PORT})")
        parser.add_argument("--no-migrate", action="store_true", help="leave the database as it is")

    def handle(self, *args: Any, host: str, port: int, no_migrate: bool, extra: str = "", **options: Any) -> None:
        if settings.REDIS_URL:
            raise CommandError(
                "REDIS_URL is set, so web and workers run as separate processes:\n"
                f"  {manage('web')}\n"
                f"  {manage('worker')}\n"
                "Unset REDIS_URL to run everything in this one process."
            )
        open_database()
        # Imported here, so that --help and the errors above appear at once.
        from inference.worker.embedded import serve
        from inference.worker.stopping import end_now
        from sessions_app.web_server import PortTaken

        if not no_migrate:
            call_command("migrate", interactive=False, verbosity=0)
        if not extra and not has_users():
            extra = f"\n  Nobody can log in yet. Make the first user:\n    {manage('createsuperuser')}\n"
        shown_host = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104
        base = f"http://{shown_host}:{port}"
        key = '-H "Authorization: Bearer $API_KEY" ' if settings.API_KEYS else ""
        welcome = WELCOME.format(version=settings.VERSION, base=base, extra=extra, key=key)
        try:
            status = serve(host=host, port=port, on_ready=lambda: self.stdout.write(welcome))
        except PortTaken as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write("Stopped.")
        end_now(status)


def has_users() -> bool:
    try:
        return get_user_model().objects.exists()
    except DatabaseError as exc:
        raise CommandError(f"The database has no tables yet. Create them first: {manage('migrate')}") from exc


def manage(command: str) -> str:
    """A command line that works in the terminal in which this command was started."""
    python = Path(sys.executable)
    shown = python.relative_to(Path.cwd()) if python.is_relative_to(Path.cwd()) else python
    return f"{shown} manage.py {command}"
