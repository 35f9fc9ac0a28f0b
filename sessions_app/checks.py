"""Checks at start for settings that would break an invariant, each with a hint how to fix it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core import checks

from sessions_app.encryption import keyring


@checks.register()
def check_streaming_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    found: list[checks.CheckMessage] = []
    if "django.middleware.gzip.GZipMiddleware" in settings.MIDDLEWARE:
        found.append(
            checks.Error(
                "GZipMiddleware breaks event streams: clients show only their first event.",
                hint="Remove it and compress in the proxy, but not text/event-stream.",
                id="sessions_app.E001",
            )
        )
    database = settings.DATABASES["default"]
    if database.get("CONN_MAX_AGE", 0) != 0:
        found.append(
            checks.Error(
                "CONN_MAX_AGE must be 0: under ASGI every request thread would leave a persistent connection behind.",
                hint="Leave it at 0. PostgreSQL is pooled by DB_POOL_SIZE.",
                id="sessions_app.E002",
            )
        )
    if database["ENGINE"].endswith("postgresql") and settings.DB_POOL_SIZE < settings.DB_THREADS + 2:
        found.append(
            checks.Warning(
                f"DB_POOL_SIZE ({settings.DB_POOL_SIZE}) is too small for DB_THREADS ({settings.DB_THREADS}).",
                hint="Set DB_POOL_SIZE to DB_THREADS plus at least 2.",
                id="sessions_app.W001",
            )
        )
    if settings.REDIS_URL and database["ENGINE"].endswith("sqlite3"):
        found.append(
            checks.Warning(
                "REDIS_URL is set and the database is an SQLite file: processes on other machines will not see it.",
                hint="Set DATABASE_URL to a PostgreSQL database, or unset REDIS_URL to run everything in one process.",
                id="sessions_app.W002",
            )
        )
    if settings.TRACES_ENDPOINT and importlib.util.find_spec("opentelemetry") is None:
        found.append(
            checks.Error(
                "TRACES_ENDPOINT is set, but the OpenTelemetry packages are not installed.",
                hint="pip install -r requirements/tracing.txt, or unset TRACES_ENDPOINT.",
                id="sessions_app.E004",
            )
        )
    if settings.SESSION_LEASE_SECONDS < 10 * settings.CHUNK_COMMIT_SECONDS:
        found.append(
            checks.Error(
                f"SESSION_LEASE_SECONDS ({settings.SESSION_LEASE_SECONDS:g}) is too short for CHUNK_COMMIT_SECONDS "
                f"({settings.CHUNK_COMMIT_SECONDS:g}): other workers would take over running sessions.",
                hint="Keep the lease at least ten commit intervals long; 15 and 0.03 are the defaults.",
                id="sessions_app.E003",
            )
        )
    return found


@checks.register()
def check_data_keys(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    try:
        keyring.ring()
    except keyring.DataKeyMissing:
        return []
    except keyring.WrongKey as exc:
        return [
            checks.Error(
                f"DATA_KEYS is wrong: {exc}.",
                hint="Each item is an id, a colon, and the base64 of 32 random bytes. A new one: manage.py "
                "make_data_key. Keys that have encrypted data must stay.",
                id="sessions_app.E005",
            )
        ]
    return []


@checks.register(checks.Tags.security, deploy=True)
def check_has_data_keys(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    if settings.DATA_KEYS:
        return []
    return [
        checks.Warning(
            "DATA_KEYS is empty: identity cards are refused, or on SQLite encrypted with a key beside the database.",
            hint="Set DATA_KEYS to what manage.py make_data_key prints, and keep it apart from the database's backups.",
            id="sessions_app.W004",
        )
    ]


@checks.register(checks.Tags.security, deploy=True)
def check_redis(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[checks.CheckMessage]:
    address = urlsplit(settings.REDIS_URL)
    if not address.netloc or address.hostname in {"localhost", "127.0.0.1", "::1"}:
        return []
    if address.scheme == "rediss" and address.password:
        return []
    return [
        checks.Warning(
            "REDIS_URL reaches another machine without TLS, or without a password.",
            hint="Use rediss://user:password@host:6379/0. Messages are sealed, but anyone who reaches Redis can delay "
            "requests, and see when messages are sent and how long they are.",
            id="sessions_app.W003",
        )
    ]
