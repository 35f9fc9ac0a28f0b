"""The first look at the database when a server starts, with one line for what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from django.db import DatabaseError, connection

#: how long the server of a database may take to answer
ANSWER_SECONDS = 5


def open_database() -> None:
    """Connect once, making the SQLite file where there is none. Raises ``CommandError``."""
    if connection.vendor == "sqlite":
        _open_file(Path(connection.settings_dict["NAME"]))
    elif connection.vendor == "postgresql":
        _ask_server(connection.settings_dict)


def _open_file(path: Path) -> None:
    """Readable by its owner alone: there are images of identity cards in it. Its WAL files get the same mode."""
    try:
        path.touch(mode=0o600)
        connection.ensure_connection()
    except (OSError, DatabaseError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise CommandError(
            f"The database file {path} cannot be opened: {reason}. SESSIONS_DB_PATH says where it is."
        ) from exc


def _ask_server(database: dict[str, Any]) -> None:
    """Without the pool, which tries again and again and then knows no reason."""
    import psycopg

    parameters = connection.get_connection_params() | {"connect_timeout": ANSWER_SECONDS}
    try:
        psycopg.connect(**parameters).close()
    except psycopg.Error as exc:
        place = f"{database['HOST'] or 'the local socket'}, port {database['PORT'] or 5432}"
        reason = (str(exc).splitlines() or [type(exc).__name__])[0].rstrip(".")
        # A server that refuses is there; what it says names the user or the database, and never the password.
        verb = "refuses" if "FATAL" in reason else "does not answer"
        raise CommandError(f"The database {verb} at {place}: {reason}. DATABASE_URL says where it is.") from exc
