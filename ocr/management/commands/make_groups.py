from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from ocr.groups import GROUPS, add_new_permissions, reset_groups


class Command(BaseCommand):
    help = (
        "Makes the groups Clerk, Reviewer, Operator and Auditor where they are missing, and gives them the permissions "
        "that this release brings. What you gave to a group or took from it stays."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--reset", action="store_true", help="give them exactly the permissions that they come with, and no others"
        )

    def handle(self, *args: Any, reset: bool, **options: Any) -> None:
        if reset:
            reset_groups()
            self.stdout.write(f"{', '.join(GROUPS)}: as they came.")
            return
        added = add_new_permissions()
        for name, permissions in added.items():
            self.stdout.write(f"{name}: {', '.join(permissions)}")
        if not added:
            self.stdout.write("There is nothing to give: the groups were given all permissions of this release before.")
