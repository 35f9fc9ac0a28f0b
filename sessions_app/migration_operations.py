"""Operations for migrations that run while the server does. An interrupted migration can be run again."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations


class AddFieldOnce(migrations.AddField):
    """For migrations with ``atomic = False``: leaves a column that an interrupted run has added."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        options = to_state.apps.get_model(app_label, self.model_name)._meta
        with schema_editor.connection.cursor() as cursor:
            columns = schema_editor.connection.introspection.get_table_description(cursor, options.db_table)
        if options.get_field(self.name).column not in {column.name for column in columns}:
            super().database_forwards(app_label, schema_editor, from_state, to_state)


class AddIndexWithoutLock(AddIndexConcurrently):
    """SQLite has one writer at a time in any case, and gets the index in the common way.

    Its migration needs ``atomic = False``. What an interrupted run left, on PostgreSQL an invalid index, is dropped.
    """

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        is_postgresql = schema_editor.connection.vendor == "postgresql"
        drop = "DROP INDEX CONCURRENTLY IF EXISTS" if is_postgresql else "DROP INDEX IF EXISTS"
        schema_editor.execute(f"{drop} {schema_editor.quote_name(self.index.name)}")
        if is_postgresql:
            super().database_forwards(app_label, schema_editor, from_state, to_state)
        else:
            migrations.AddIndex.database_forwards(self, app_label, schema_editor, from_state, to_state)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if schema_editor.connection.vendor == "postgresql":
            super().database_backwards(app_label, schema_editor, from_state, to_state)
        else:
            migrations.AddIndex.database_backwards(self, app_label, schema_editor, from_state, to_state)
