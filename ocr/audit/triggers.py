"""Database triggers that refuse to change or remove lines of the audit log.

They stop mistakes and ``manage.py flush``. The table's owner can drop them; a change is then visible in the hash chain.
SQLite drops them when a migration rebuilds the table, so that migration must call ``refuse_changes`` again.
"""

from __future__ import annotations

from django.db.backends.base.base import BaseDatabaseWrapper

TABLE = "ocr_auditentry"
MESSAGE = "the audit log is append-only"

_ON_POSTGRESQL = (
    f"""
    CREATE OR REPLACE FUNCTION ocr_audit_refuse() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION '{MESSAGE}'; END $$
    """,
    f"CREATE TRIGGER ocr_audit_no_change BEFORE UPDATE OR DELETE ON {TABLE}"
    " FOR EACH ROW EXECUTE FUNCTION ocr_audit_refuse()",
    f"CREATE TRIGGER ocr_audit_no_truncate BEFORE TRUNCATE ON {TABLE}"
    " FOR EACH STATEMENT EXECUTE FUNCTION ocr_audit_refuse()",
)
_OFF_POSTGRESQL = (
    f"DROP TRIGGER IF EXISTS ocr_audit_no_change ON {TABLE}",
    f"DROP TRIGGER IF EXISTS ocr_audit_no_truncate ON {TABLE}",
    "DROP FUNCTION IF EXISTS ocr_audit_refuse()",
)
_ON_SQLITE = tuple(
    f"CREATE TRIGGER ocr_audit_no_{deed.lower()} BEFORE {deed} ON {TABLE} BEGIN SELECT RAISE(ABORT, '{MESSAGE}'); END"
    for deed in ("UPDATE", "DELETE")
)
_OFF_SQLITE = tuple(f"DROP TRIGGER IF EXISTS ocr_audit_no_{deed}" for deed in ("update", "delete"))

_ON = {"postgresql": _ON_POSTGRESQL, "sqlite": _ON_SQLITE}
_OFF = {"postgresql": _OFF_POSTGRESQL, "sqlite": _OFF_SQLITE}
_COUNT = {
    "postgresql": "SELECT count(*) FROM pg_trigger WHERE tgrelid = %s::regclass AND tgenabled <> 'D'",
    "sqlite": "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s",
}


def refuse_changes(connection: BaseDatabaseWrapper) -> None:
    """Create the triggers."""
    _execute(connection, _OFF, _ON)


def allow_changes(connection: BaseDatabaseWrapper) -> None:
    """Drop the triggers, to reverse the migration and for tests, which empty all tables."""
    _execute(connection, _OFF)


def are_present(connection: BaseDatabaseWrapper) -> bool:
    """Whether the triggers exist."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNT[connection.vendor], [TABLE])
        (count,) = cursor.fetchone()
    return bool(count == len(_ON_SQLITE))


def _execute(connection: BaseDatabaseWrapper, *groups: dict[str, tuple[str, ...]]) -> None:
    with connection.cursor() as cursor:
        for group in groups:
            for statement in group[connection.vendor]:
                cursor.execute(statement)
