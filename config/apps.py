"""The site: its pages, its settings, and what it stores about its users."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class SiteConfig(AppConfig):
    name = "config"
    verbose_name = _("Site")

    def ready(self) -> None:
        from config import languages  # noqa: F401  (connects its signal)
