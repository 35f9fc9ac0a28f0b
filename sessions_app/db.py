"""ORM work from async code, in short bursts, on a few threads that release their connections.

Django's own way pins one thread and one connection to a request for as long as its stream lasts: 50 streams held 52
threads and 50 connections. Here a call borrows one of ``DB_THREADS`` threads for one burst of queries.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar

from django.conf import settings
from django.db import connections
from django.utils import translation

P = ParamSpec("P")
T = TypeVar("T")


@functools.cache
def _executor() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=settings.DB_THREADS, thread_name_prefix="orm")


@functools.cache
def _spare() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max_workers=1, thread_name_prefix="orm-spare")


async def in_db(fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run ``fn`` on the bounded executor and release its connections. The caller's context variables go with it."""
    return await _run(_executor(), functools.partial(fn, *args, **kwargs))


async def in_db_on_spare_thread(fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """As ``in_db``, on a separate thread: the call does not wait for the calls of hundreds of requests."""
    return await _run(_spare(), functools.partial(fn, *args, **kwargs))


async def _run(executor: ThreadPoolExecutor, fn: Callable[[], T]) -> T:
    # asgiref ties what it keeps in context variables, such as the language of the page, to the thread.
    call = functools.partial(_call_and_release, fn, translation.get_language())
    return await asyncio.get_running_loop().run_in_executor(executor, contextvars.copy_context().run, call)


def _call_and_release(call: Callable[[], Any], language: str | None) -> Any:
    try:
        with translation.override(language):
            return call()
    finally:
        release_connections()


def release_connections() -> None:
    """Give this thread's connections back: to the pool where there is one, closed where there is none.

    A connection inside a transaction stays (it is a test's), and so does SQLite's: it costs a file handle and opening
    it again costs more than the query. But one whose transaction could not be ended is closed too, because nothing that
    its thread wrote from then on would be committed.
    """
    for connection in connections.all(initialized_only=True):
        if connection.in_atomic_block or (connection.vendor == "sqlite" and connection.autocommit):
            continue
        connection.close()
