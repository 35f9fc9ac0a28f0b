"""The indexes that claims read. PostgreSQL makes them while sessions are opened and run.

If it is interrupted, drop what it left (``DROP INDEX CONCURRENTLY session_turn``, ``session_caller_started``) and migrate
again.
"""

from typing import Any

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class AddIndexWithoutLock(AddIndexConcurrently):
    """SQLite has one writer at a time in any case, and gets the index in the common way."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor == "postgresql":
            super().database_forwards(app_label, schema_editor, from_state, to_state)
        else:
            migrations.AddIndex.database_forwards(self, app_label, schema_editor, from_state, to_state)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor == "postgresql":
            super().database_backwards(app_label, schema_editor, from_state, to_state)
        else:
            migrations.AddIndex.database_backwards(self, app_label, schema_editor, from_state, to_state)


class Migration(migrations.Migration):

    atomic = False

    dependencies = [
        ("sessions_app", "0003_caller"),
    ]

    operations = [
        AddIndexWithoutLock(
            model_name="chatsession",
            index=models.Index(
                condition=models.Q(("state__in", ("queued", "running"))),
                fields=["state", "caller", "origin", "created_at", "workers_lost", "id"],
                name="session_turn",
            ),
        ),
        AddIndexWithoutLock(
            model_name="chatsession",
            index=models.Index(fields=["caller", "origin", "started_at"], name="session_caller_started"),
        ),
    ]
