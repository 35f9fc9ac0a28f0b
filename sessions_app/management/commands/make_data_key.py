"""``manage.py make_data_key``: print a new key for ``DATA_KEYS``."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from sessions_app.encryption import keyring

HINT = """\
The first key: set DATA_KEYS to it on every machine. A further one: add it at the end of DATA_KEYS and restart every
process, then move it to the front and restart again, then run: manage.py rotate_keys
Keep a copy of every key, but not where backups of the database are: without it no card can be read."""


class Command(BaseCommand):
    help = "Print a new random key in the form of DATA_KEYS. It is stored nowhere."
    # DATA_KEYS may be wrong or missing when this is needed.
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--id", default="", help="its id: letters, digits, - and _, 16 at most (default: the date)")

    def handle(self, *args: Any, id: str, **options: Any) -> None:  # noqa: A002  (the name of the option)
        if id and not keyring.KEY_ID.fullmatch(id):
            raise CommandError("An id has letters, digits, - and _, and 16 characters at most.")
        self.stdout.write(keyring.new_item(id))
        self.stderr.write(HINT)
