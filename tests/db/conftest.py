"""What is sent to the workers and told to the hubs, kept for the test in place of both."""

from __future__ import annotations

import pytest

from sessions_app import wakeups
from sessions_app.store import queue
from sessions_app.wakeups import Wakeup
from tests.db.ktp_calls import model_that_says  # noqa: F401  (a fixture)
from tests.db.ktp_cards import frozen_meanwhile  # noqa: F401  (a fixture)
from tests.db.scripted_upstream import start_engine, upstream  # noqa: F401  (fixtures)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids that were sent to the workers; nothing takes them."""
    ids: list[str] = []
    monkeypatch.setattr(queue, "send", ids.append)
    return ids


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Wakeup]:
    """What the hubs were told."""
    heard: list[Wakeup] = []
    monkeypatch.setattr(wakeups, "publish", heard.extend)
    return heard
