"""Search everything that a server leaves behind for given bytes: files, tables, and what went through Redis."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path

import psycopg
import redis

from tests.live.stack import EmbeddedStack, ScaledStack, Stack


def forms_of(secret: bytes) -> list[bytes]:
    """The secret as it may appear: itself, in hex, and within base64 at each of the three alignments."""
    forms = [secret, secret.hex().encode()]
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + secret)
        # The characters at both ends depend on the neighbours too.
        forms.append(encoded[(before * 8 + 5) // 6 : -4].rstrip(b"="))
    return forms


def found_in(content: bytes, secrets: Mapping[str, bytes]) -> set[str]:
    """The names of the secrets that it contains in any form."""
    return {name for name, secret in secrets.items() if any(form in content for form in forms_of(secret))}


def found_in_files(folder: Path, secrets: Mapping[str, bytes]) -> set[tuple[str, str]]:
    """File and secret; every file of the folder, also the database with its write-ahead log."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {(path.name, name) for path in files for name in found_in(path.read_bytes(), secrets)}


def found_in_tables(stack: Stack, secrets: Mapping[str, bytes]) -> set[tuple[str, str]]:
    """Table and secret, of a server on PostgreSQL. Columns come as the database stores them, bytes raw."""
    if not isinstance(stack, ScaledStack):
        return set()
    found = set()
    with psycopg.connect(stack.env["DATABASE_URL"], autocommit=True) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        for (table,) in tables:
            with connection.cursor().copy(f'COPY "{table}" TO STDOUT (FORMAT binary)'.encode()) as rows:
                content = b"".join(bytes(part) for part in rows)
            found |= {(table, name) for name in found_in(content, secrets)}
    return found


def cells_of(stack: Stack, table: str, columns: str, key: str, value: str) -> Iterator[bytes]:
    """The stored values of these columns, as bytes."""
    parameter = value.replace("-", "") if isinstance(stack, EmbeddedStack) and key.endswith("id") else value
    for row in stack.query(f"SELECT {columns} FROM {table} WHERE {key} = ?", parameter):  # noqa: S608
        for cell in row:
            yield cell.encode() if isinstance(cell, str) else bytes(cell)


class RedisTap:
    """Everything that any client sends to a Redis database, from ``start`` to ``stop``."""

    def __init__(self, url: str) -> None:
        # It waits for as long as the server is quiet.
        self._client = redis.Redis.from_url(url, socket_timeout=None)
        self._number = int(url.rpartition("/")[2])
        self._lines: list[bytes] = []
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._mark = f"end of the tap {id(self)}"
        self._began = threading.Event()

    def start(self) -> RedisTap:
        self._thread.start()
        assert self._began.wait(10)
        return self

    def stop(self) -> bytes:
        """What was sent. Non-printing bytes are as they were."""
        self._client.echo(self._mark)
        self._thread.join(10)
        self._client.close()
        lines = b"\n".join(line for line in self._lines if b" [%d " % self._number in line)
        return re.sub(rb"\\x([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), lines)

    def _listen(self) -> None:
        # Not by the client's own ``monitor``, which takes lines apart, and fails on some.
        connection = self._client.connection_pool.get_connection()
        try:
            connection.send_command("MONITOR")
            connection.read_response()
            self._began.set()
            while not self._lines or self._mark.encode() not in self._lines[-1]:
                self._lines.append(bytes(connection.read_response()))
        finally:
            connection.disconnect()
