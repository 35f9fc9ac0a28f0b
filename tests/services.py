"""What of Redis, PostgreSQL and Chromium this machine has. ``TESTS_REQUIRE_ALL=1`` fails where one is missing."""

from __future__ import annotations

import functools
import os
import shutil
import unittest
from collections.abc import Callable

import psycopg
import redis

POSTGRES_URL = os.environ.get("TESTS_POSTGRES_URL", "postgres://postgres@127.0.0.1:5432/postgres")
# A database number of its own: the tests send to its queue.
REDIS_URL = os.environ.get("TESTS_REDIS_URL", "redis://127.0.0.1:6379/15")
# The number below it is for the one server that a test has to itself and whose queue it may empty. On the number of the
# shared server, that server's worker would take its messages and drop them, for it has another database.
OWN_REDIS_URL = f"{REDIS_URL.rpartition('/')[0]}/{int(REDIS_URL.rpartition('/')[2]) - 1}"


@functools.cache
def missing_postgresql() -> str:
    """Why it cannot be used; empty when it can."""
    try:
        psycopg.connect(POSTGRES_URL, connect_timeout=3).close()
    except psycopg.OperationalError as exc:
        return f"no PostgreSQL at TESTS_POSTGRES_URL: {str(exc).splitlines()[0]}"
    return ""


@functools.cache
def missing_redis() -> str:
    try:
        with redis.Redis.from_url(REDIS_URL, socket_connect_timeout=3) as client:
            client.ping()
    except redis.RedisError as exc:
        return f"no Redis at TESTS_REDIS_URL: {exc}"
    return ""


@functools.cache
def chromium() -> str | None:
    """The path of the browser."""
    return os.environ.get("TESTS_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")


def missing_browser() -> str:
    return "" if chromium() else "no Chromium on the PATH, and TESTS_CHROMIUM is not set"


def missing_gettext() -> str:
    return "" if shutil.which("xgettext") else "no xgettext on the PATH: install gettext"


MISSING: dict[str, Callable[[], str]] = {
    "postgresql": missing_postgresql,
    "redis": missing_redis,
    "browser": missing_browser,
    "gettext": missing_gettext,
}


def require(*services: str) -> None:
    """Skip the test where a service is missing, with the reason; fail it where all are required."""
    for service in services:
        if reason := MISSING[service]():
            if os.environ.get("TESTS_REQUIRE_ALL") == "1":
                raise AssertionError(reason)
            raise unittest.SkipTest(reason)
