"""``manage.py demo``: everything a newcomer needs, made on the spot, and then ``serve``."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from inference.management.database import open_database

ADMIN_NAME = "admin"


class Command(BaseCommand):
    help = (
        "Migrate, build the small local model, create an admin user (its password is printed once), and serve. "
        "Nothing is downloaded. What was made before is kept."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        if not Path(settings.MODEL_REPO_ID).is_absolute() and "/" in settings.MODEL_REPO_ID:
            folder = settings.BASE_DIR / settings.MODEL_REPO_ID
        else:
            folder = Path(settings.MODEL_REPO_ID)
        if settings.BASE_DIR not in folder.resolve().parents:
            raise CommandError("The demo builds its own model: set MODEL_REPO_ID to a folder inside this checkout.")
        open_database()
        call_command("migrate", interactive=False, verbosity=0)
        # Quiet: a model that is there already is no news.
        call_command("build_tiny_model", str(folder), verbosity=0)
        call_command("serve", no_migrate=True, extra=self._admin_lines())

    def _admin_lines(self) -> str:
        users = get_user_model().objects
        if users.filter(username=ADMIN_NAME).exists():
            return (
                f"\n  Log in as    {ADMIN_NAME}, with the password that the first start printed"
                f"\n               (set another: make demo-password)\n"
            )
        password = secrets.token_urlsafe(12)
        users.create_superuser(ADMIN_NAME, password=password)
        return f"\n  Log in as    {ADMIN_NAME}\n  Password     {password}   (printed this once)\n"
