"""``manage.py sweep``: one pass of the sweeper, for an operator or a scheduler. The workers do it by themselves too."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from sessions_app.history.writer import writing
from sessions_app.store.sweeper import sweep


class Command(BaseCommand):
    help = "Release sessions of lost workers, cancel sessions without a listener, delete expired ones."

    def handle(self, *args: Any, **options: Any) -> None:
        with writing():
            moved = sweep()
        for step, count in moved.items():
            self.stdout.write(f"{step}: {count}")
        if not moved:
            self.stdout.write("Nothing to do.")
