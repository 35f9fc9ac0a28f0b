"""``manage.py rotate_keys``: encrypt everything with the first of the ``DATA_KEYS``."""

from __future__ import annotations

import sys
import time
from collections import Counter
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from sessions_app.encryption import keyring, rotation
from sessions_app.signals import keys_rotated

#: seconds between two lines of progress
REPORT_SECONDS = 2.0


class Command(BaseCommand):
    help = (
        "Encrypt identity cards and the sessions of their readings again: what is under an older key of DATA_KEYS, or "
        "plain, gets the first key. The server may run meanwhile. It can be interrupted, and started again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--check", action="store_true", help="only count; exit status 1 if something is to be done")
        parser.add_argument("--pause", type=float, default=0.0, help="seconds to wait after each batch (default 0)")

    def handle(self, *args: Any, check: bool, pause: float, **options: Any) -> None:
        try:
            ring = keyring.ring()
        except keyring.DataKeyMissing:
            raise CommandError("DATA_KEYS is empty. A key: manage.py make_data_key") from None
        outdated, lost = Counter[str](), Counter[str]()
        written = 0
        for model in rotation.tables():
            progress = self._rotate(model, check, pause)
            outdated += progress.outdated
            lost += progress.lost
            written += progress.written
        if not check:
            keys_rotated.send(sender=Command, first=ring.first.id, rows=written)
        for key_id, rows in lost.items():
            self.stderr.write(f"{rows} values cannot be read: the key {key_id} is not in DATA_KEYS.")
        if check and outdated:
            for key_id, rows in outdated.items():
                self.stdout.write(f"{rows} rows are {f'under the key {key_id}' if key_id else 'not encrypted'}.")
            self.stdout.write("Run manage.py rotate_keys, and keep every key until --check finds nothing.")
            sys.exit(1)
        if older := ", ".join(ring.ids[1:]):
            self.stdout.write(
                f"Everything is under the key {ring.first.id}. Once every process was restarted with it as the first "
                f"key and --check finds nothing, remove: {older}. Backups that are older need them."
            )
        else:
            self.stdout.write(f"Everything is under the key {ring.first.id}, the only one.")
        if lost:
            sys.exit(1)

    def _rotate(self, model: Any, is_dry_run: bool, pause: float) -> rotation.Progress:
        total = rotation.rows_of(model).count()
        shown_at = time.monotonic()
        progress = rotation.Progress(model._meta.db_table)
        for progress in rotation.rotate(model, is_dry_run=is_dry_run):
            if time.monotonic() > shown_at + REPORT_SECONDS:
                self._show(progress, total)
                shown_at = time.monotonic()
            time.sleep(pause)
        self._show(progress, total)
        return progress

    def _show(self, progress: rotation.Progress, total: int) -> None:
        self.stdout.write(f"{progress.table}: {progress.rows} of {total} rows, {progress.written} encrypted")
        self.stdout.flush()
