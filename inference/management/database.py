"""Checks the database when a server starts, with a one-line error if it cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from django.core.management.base import CommandError
from django.db import DatabaseError, connection

from sessions_app.encryption.keyring import make_key_file
from sessions_app.sqlite_file import create_file

#: maximum time for the database server to answer
ANSWER_SECONDS = 5


def open_database() -> None:
    """Connect once, and create the SQLite file if there is none. Raises ``CommandError``."""
    if connection.vendor == "sqlite":
        _open_file(Path(connection.settings_dict["NAME"]))
    elif connection.vendor == "postgresql":
        _ask_server(connection.settings_dict)


def _open_file(path: Path) -> None:
    """Create the file, and beside it the key of the cards in it."""
    try:
        create_file(path)
        connection.ensure_connection()
        make_key_file()
    except (OSError, DatabaseError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else exc
        raise CommandError(
            f"The database file {path} cannot be opened: {reason}. SESSIONS_DB_PATH says where it is."
        ) from exc


def _ask_server(database: dict[str, Any]) -> None:
    """Connect without the pool, which would retry and then not report the reason."""
    import psycopg

    parameters = connection.get_connection_params() | {"connect_timeout": ANSWER_SECONDS}
    try:
        psycopg.connect(**parameters).close()
    except psycopg.Error as exc:
        place = f"{database['HOST'] or 'the local socket'}, port {database['PORT'] or 5432}"
        reason = (str(exc).splitlines() or [type(exc).__name__])[0].rstrip(".")
        # A FATAL error comes from a running server. Its text names the user or the database, never the password.
        verb = "refuses" if "FATAL" in reason else "does not answer"
        raise CommandError(f"The database {verb} at {place}: {reason}. DATABASE_URL says where it is.") from exc
