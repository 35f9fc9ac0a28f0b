"""Fixtures that every folder uses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import services


def pytest_runtest_setup(item: pytest.Item) -> None:
    services.require(*(mark.name for mark in item.iter_markers() if mark.name in services.MISSING))


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small local model, built once a run."""
    from inference.tiny_models.vision import build_tiny_model

    return build_tiny_model(tmp_path_factory.mktemp("models") / "tiny")
