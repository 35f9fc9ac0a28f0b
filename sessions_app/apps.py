from __future__ import annotations

from typing import Any

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class SessionsConfig(AppConfig):
    name = "sessions_app"
    verbose_name = _("Sessions")

    def ready(self) -> None:
        from sessions_app import checks, signals  # noqa: F401  (registers the system checks)

        signals.web_server_starts.connect(_begin_history)
        signals.web_server_ended.connect(_end_history)
        signals.swept.connect(_keep_history_small)


# Imported only in these: there are no models yet when this module is read.


def _begin_history(**kwargs: Any) -> None:
    from sessions_app.history.writer import start_writing

    start_writing()


def _end_history(**kwargs: Any) -> None:
    from sessions_app.history.writer import LAST_WRITE_SECONDS, stop_writing

    stop_writing(LAST_WRITE_SECONDS)


def _keep_history_small(**kwargs: Any) -> None:
    from sessions_app.history import buckets

    buckets.keep_small()
