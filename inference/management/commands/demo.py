"""``manage.py demo``: create everything that a first start needs, and then ``serve``."""

from __future__ import annotations

import secrets
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from inference.management.database import open_database

ADMIN_NAME = "admin"
READER = "models/ktp-reader"


class Command(BaseCommand):
    help = (
        "Migrate, create an admin user (its password is printed once), and serve the small reader that the repository "
        "brings. Nothing is downloaded. What was made before is kept."
    )

    def handle(self, *args: Any, **options: Any) -> None:
        folder = settings.BASE_DIR / settings.MODEL_REPO_ID
        if not (folder / "config.json").is_file():
            raise CommandError(
                f"MODEL_REPO_ID is {settings.MODEL_REPO_ID!r}, and no model is in that folder. The demo needs a local "
                f"one: {READER} comes with the repository. Any other model: make serve."
            )
        open_database()
        call_command("migrate", interactive=False, verbosity=0)
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
