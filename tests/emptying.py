"""Empty the database after a test with real transactions, once the test's threads are done with it.

Django's ``flush`` truncates every table and then makes content types, permissions and groups anew: on PostgreSQL that
takes longer than most tests. This deletes the rows that there are, and leaves the tables of ``KEPT`` as they were.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction
from django.db.models import Model
from django.test import TransactionTestCase

from ocr.given_permissions import GivenPermission
from sessions_app import db

#: longest wait for what a test left running on the threads of the ORM
THREADS_SECONDS = 60.0

#: made by ``migrate``, and needed by every test
KEPT: tuple[type[Model], ...] = (ContentType, Permission, Group, Group.permissions.through, GivenPermission)


def kept_rows() -> list[set[tuple[Any, ...]]]:
    return [set(model._default_manager.values_list()) for model in KEPT]


def other_tables() -> list[str]:
    """Their names, quoted."""
    kept = {model._meta.db_table for model in KEPT}
    names = connection.introspection.django_table_names(only_existing=True)
    return [connection.ops.quote_name(name) for name in names if name not in kept]


def delete_rows(tables: Sequence[str]) -> None:
    """In one transaction: the constraints between tables are checked at its end."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            " UNION ALL ".join(f"SELECT {n} WHERE EXISTS (SELECT 1 FROM {name})" for n, name in enumerate(tables))  # noqa: S608  (names of tables)
        )
        for (number,) in cursor.fetchall():
            cursor.execute(f"DELETE FROM {tables[number]}")  # noqa: S608  (as above)


def wait_for_orm_threads() -> None:
    """Until they have ended what cancelled tasks left behind.

    After the test pytest-django refuses every use of the database. If a transaction is just ending then, its connection
    stays without autocommit, and nothing that its thread writes in later tests is ever committed.
    """
    for pool in (db._executor, db._spare):
        if pool.cache_info().currsize:
            threads = pool()._max_workers
            all_idle = threading.Barrier(threads + 1)
            for _ in range(threads):
                pool().submit(all_idle.wait, THREADS_SECONDS)
            all_idle.wait(THREADS_SECONDS)


def delete_rows_instead_of_flush() -> Any:
    """A patch for as long as the test database of now lives."""
    made, tables = kept_rows(), other_tables()
    flush: Callable[[TransactionTestCase], None] = TransactionTestCase._fixture_teardown  # type: ignore[attr-defined]

    def teardown(case: TransactionTestCase) -> None:
        wait_for_orm_threads()
        if kept_rows() == made:
            delete_rows(tables)
        else:  # The test has changed what all need.
            flush(case)
            made[:] = kept_rows()

    return mock.patch.object(TransactionTestCase, "_fixture_teardown", teardown)
