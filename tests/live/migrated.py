"""Empty databases for servers: migrated once a process, and copied for each server, which is much faster."""

from __future__ import annotations

import atexit
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import psycopg

MIGRATE_SECONDS = 180.0

#: what there is to copy, by checkout and server of PostgreSQL ("" for SQLite)
_templates: dict[tuple[Path, str], str] = {}


def create_sqlite(file: Path, root: Path, env: Mapping[str, str]) -> None:
    """``env`` has the settings of a server; nothing in an empty database depends on them."""
    if (root, "") not in _templates:
        folder = tempfile.mkdtemp(prefix="sambung-migrated-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        _migrate(root, {**env, "SESSIONS_DB_PATH": f"{folder}/empty.db"})
        _templates[root, ""] = f"{folder}/empty.db"
    shutil.copy(_templates[root, ""], file)


def create_postgresql(name: str, url: str, root: Path, env: Mapping[str, str]) -> None:
    """Create the database beside that of ``url``."""
    if (root, url) not in _templates:
        template = f"sambung_migrated_{os.getpid()}_{secrets.token_hex(3)}"
        _execute(url, f'CREATE DATABASE "{template}"')
        atexit.register(_execute, url, f'DROP DATABASE IF EXISTS "{template}" WITH (FORCE)')
        _migrate(root, {**env, "DATABASE_URL": beside(url, template)})
        _templates[root, url] = template
    _execute(url, f'CREATE DATABASE "{name}" TEMPLATE "{_templates[root, url]}"')


def beside(url: str, name: str) -> str:
    """The address of another database of the same server."""
    return f"{url.rsplit('/', 1)[0]}/{name}"


def _execute(url: str, sql: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(sql)


def _migrate(root: Path, env: Mapping[str, str]) -> None:
    command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
    done = subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, timeout=MIGRATE_SECONDS)
    assert done.returncode == 0, done.stderr
