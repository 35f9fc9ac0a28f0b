from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from ocr.groups import make_groups


class Command(BaseCommand):
    help = "Makes the groups Clerk, Reviewer, Operator and Auditor, and gives them back the permissions they came with."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(f"{', '.join(make_groups(restore=True))}: as they came.")
