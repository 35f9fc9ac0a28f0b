"""Operations for migrations that run while the server does. An interrupted migration can be run again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps


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


class AddForeignIndex(migrations.RunPython):
    """An index on a table of another app, whose models and migrations are not ours. ``atomic = False``, as above."""

    def __init__(self, label: str, columns: Sequence[str], name: str) -> None:
        self.label, self.columns, self.name = label, tuple(columns), name
        super().__init__(self._add, self._remove)

    def deconstruct(self) -> tuple[str, Sequence[Any], dict[str, Any]]:
        return type(self).__qualname__, (), {"label": self.label, "columns": self.columns, "name": self.name}

    def _add(self, apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
        self._remove(apps, schema_editor)
        table = schema_editor.quote_name(apps.get_model(self.label)._meta.db_table)
        columns = ", ".join(map(schema_editor.quote_name, self.columns))
        name = schema_editor.quote_name(self.name)
        schema_editor.execute(f"CREATE INDEX {_concurrently(schema_editor)} {name} ON {table} ({columns})")

    def _remove(self, apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
        name = schema_editor.quote_name(self.name)
        schema_editor.execute(f"DROP INDEX {_concurrently(schema_editor)} IF EXISTS {name}")


class CascadeInDatabase(migrations.RunPython):
    """Let PostgreSQL itself delete the rows of ``label`` with what their foreign key points to.

    Django deletes them first. But a process of a release that has no such table deletes only what it knows, and the
    constraint refuses that. Both tables are locked for a moment, and stay readable and writable while the rows are
    checked. If a long transaction reads one of them, the lock is not waited for, since every other request would wait
    behind it: the migration fails after ``LOCK_SECONDS`` and can be run again. Nothing on SQLite, whose one process is
    of one release. A migration that alters the field makes its constraint anew, without this.
    """

    LOCK_SECONDS = 5

    def __init__(self, label: str, field: str) -> None:
        self.label, self.field = label, field
        super().__init__(self._cascade, self._refuse)

    def deconstruct(self) -> tuple[str, Sequence[Any], dict[str, Any]]:
        return type(self).__qualname__, (), {"label": self.label, "field": self.field}

    def _cascade(self, apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
        self._replace(apps, schema_editor, "ON DELETE CASCADE")

    def _refuse(self, apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
        self._replace(apps, schema_editor, "")

    def _replace(self, apps: StateApps, schema_editor: BaseDatabaseSchemaEditor, on_delete: str) -> None:
        if schema_editor.connection.vendor != "postgresql":
            return
        model = apps.get_model(self.label)
        field: Any = model._meta.get_field(self.field)
        target = field.remote_field.model
        quote = schema_editor.quote_name
        table = quote(model._meta.db_table)
        names = schema_editor._constraint_names(model, [field.column], foreign_key=True)  # type: ignore[attr-defined]
        name = quote(names[0])
        schema_editor.execute(f"SET lock_timeout = '{self.LOCK_SECONDS}s'")
        # NOT VALID reads no row.
        schema_editor.execute(
            f"ALTER TABLE {table} DROP CONSTRAINT {name}, ADD CONSTRAINT {name} FOREIGN KEY ({quote(field.column)}) "
            f"REFERENCES {quote(target._meta.db_table)} ({quote(target._meta.pk.column)}) {on_delete} "
            "DEFERRABLE INITIALLY DEFERRED NOT VALID"
        )
        schema_editor.execute("RESET lock_timeout")
        schema_editor.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT {name}")


def _concurrently(schema_editor: BaseDatabaseSchemaEditor) -> str:
    return "CONCURRENTLY" if schema_editor.connection.vendor == "postgresql" else ""
