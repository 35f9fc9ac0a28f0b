"""Fixtures of the tests that start processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inference.engine_process.client import EngineProcess
from tests.processes.engine_processes import DEADLINE_SECONDS, Start, config
from tests.unit.conftest import collect  # noqa: F401  (a fixture)


@pytest.fixture(scope="module")
def engine(tiny_model: Path) -> Iterator[EngineProcess]:
    """One that no test ends."""
    engine = EngineProcess(config(tiny_model), lambda progress: None)
    engine.load()
    yield engine
    assert engine.stop(DEADLINE_SECONDS)


@pytest.fixture
def start(tiny_model: Path) -> Iterator[Start]:
    """Starts engines of the test's own."""
    engines = []

    def start(on_lost: Callable[[str], None] | None = None) -> EngineProcess:
        engines.append(EngineProcess(config(tiny_model), lambda progress: None, on_lost))
        engines[-1].load()
        return engines[-1]

    yield start
    for engine in engines:
        engine.stop(DEADLINE_SECONDS)
