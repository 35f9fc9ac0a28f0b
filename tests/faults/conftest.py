"""A scaled server for each test, between proxies that the test may cut, and clients that come back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests import services
from tests.faults.faulty_stack import FaultyStack
from tests.faults.proxy import Proxy


@pytest.fixture(scope="session", autouse=True)
def fast_starts(preloaded_servers: None) -> None:
    """Of all servers that are started by ``manage.py``."""


@pytest.fixture
def start_stack(tiny_model: Path, tmp_path: Path) -> Iterator[Callable[..., FaultyStack]]:
    """Start a stack with these settings; ``with_worker=False`` leaves the workers to the test."""
    with ExitStack() as running:

        def start(*, with_worker: bool = True, **settings: object) -> FaultyStack:
            postgres, broker = urlsplit(services.POSTGRES_URL), urlsplit(services.OWN_REDIS_URL)
            stack = FaultyStack(
                tmp_path,
                tiny_model,
                redis_url=services.OWN_REDIS_URL,
                database=running.enter_context(Proxy(postgres.hostname or "", postgres.port or 5432)),
                broker=running.enter_context(Proxy(broker.hostname or "", broker.port or 6379)),
                **settings,
            )
            running.callback(stack.stop)
            stack.start(with_worker=with_worker)
            return stack

        yield start


@pytest.fixture
def stack(start_stack: Callable[..., FaultyStack]) -> FaultyStack:
    return start_stack(SESSION_LEASE_SECONDS=2)
