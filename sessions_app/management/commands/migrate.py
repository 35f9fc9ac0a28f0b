"""Django's ``migrate``, which creates a SQLite file that only its owner can read: chats are in it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError
from django.core.management.commands import migrate
from django.db import connections

from sessions_app.sqlite_file import create_file


class Command(migrate.Command):
    def execute(self, *args: Any, **options: Any) -> str | None:
        database: Any = connections[options["database"]]
        if database.vendor == "sqlite" and not database.is_in_memory_db():
            path = database.settings_dict["NAME"]
            try:
                create_file(path)
            except OSError as exc:
                reason = f"{exc.strerror}. SESSIONS_DB_PATH says where it is."
                raise CommandError(f"The database file {path} cannot be created: {reason}") from exc
        # The checks open the database, before ``handle``.
        return super().execute(*args, **options)
