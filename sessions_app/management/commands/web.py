"""``manage.py web``: one web process, for the deployment with workers of their own."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from sessions_app.management.arguments import port_number
from sessions_app.web_server import PortTaken, run_web_server


class Command(BaseCommand):
    help = "Run one web process: API, KTP form and admin. Start one a core; the model runs in `manage.py worker`."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default=settings.HOST, help=f"address to listen on (default {settings.HOST})")
        parser.add_argument("--port", type=port_number, default=settings.PORT, help=f"port (default {settings.PORT})")

    def handle(self, *args: Any, host: str, port: int, **options: Any) -> None:
        if not settings.REDIS_URL:
            raise CommandError(
                "REDIS_URL is not set. Without a broker, `manage.py serve` runs web and worker together."
            )
        try:
            listening = f"Sambung {settings.VERSION} is listening on {host}:{port}."
            run_web_server(host=host, port=port, on_ready=lambda: self.stdout.write(listening))
        except PortTaken as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write("Stopped.")
