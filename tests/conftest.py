"""Fixtures that every folder uses."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import hypothesis
import pytest
import pytest_django

from tests import services


def pytest_runtest_setup(item: pytest.Item) -> None:
    services.require(*(mark.name for mark in item.iter_markers() if mark.name in services.MISSING))


# Examples have no deadline: machines differ. What must hold before a change lands is the same in each run; by hand,
# every run tries other examples.
hypothesis.settings.register_profile("by hand", deadline=None)
hypothesis.settings.register_profile("before landing", deadline=None, derandomize=True)
hypothesis.settings.load_profile("before landing" if os.environ.get("TESTS_REQUIRE_ALL") else "by hand")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small local model, built once a run."""
    from inference.tiny_models.vision import build_tiny_model

    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_thinking_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same weights behind a chat template of a model that thinks."""
    from inference.tiny_models.vision import THINKING_CHAT_TEMPLATE, build_tiny_model

    folder = tmp_path_factory.mktemp("models") / "tiny-thinking"
    return build_tiny_model(folder, chat_template=THINKING_CHAT_TEMPLATE)


@pytest.fixture(scope="session")
def preloaded_servers() -> Iterator[None]:
    """Servers start as forks of one process, see ``tests.live.preloaded``."""
    from tests.live.preloaded import Preloaded
    from tests.live.stack import ROOT, Stack

    preloaded = Preloaded(ROOT)
    with mock.patch.object(Stack, "preloaded", preloaded):
        yield
    preloaded.close()


@pytest.fixture(scope="session")
def tables_can_be_emptied() -> Iterator[None]:
    """The audit log refuses to be emptied, as tests with real transactions do. They do without its triggers."""
    from ocr.audit import triggers

    with mock.patch.object(triggers, "refuse_changes"):
        yield


@pytest.fixture(scope="session")
def django_db_setup(
    tables_can_be_emptied: None, django_db_setup: None, django_db_blocker: pytest_django.DjangoDbBlocker
) -> Iterator[None]:
    """As pytest-django's, but emptied by ``tests.emptying`` after each test with real transactions."""
    from tests import emptying

    with django_db_blocker.unblock():
        patch = emptying.delete_rows_instead_of_flush()
    with patch:
        yield
