from __future__ import annotations

from typing import Any

from django.apps import AppConfig

from sessions_app.signals import swept


class OcrConfig(AppConfig):
    name = "ocr"
    verbose_name = "KTP reading"

    def ready(self) -> None:
        swept.connect(complete_finished, dispatch_uid="ocr.complete_finished")


def complete_finished(**kwargs: Any) -> None:
    """Complete the readings whose web process is gone. Runs after every sweep, in the thread that swept."""
    from ocr import extraction  # its models are loaded after the app registry

    extraction.complete_finished()
