"""The site: its pages, its settings, and what it keeps of its users."""

from __future__ import annotations

from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "config"
    verbose_name = "Site"

    def ready(self) -> None:
        from config import languages  # noqa: F401  (connects its signal)
