"""Fixtures of the tests that start processes."""

from __future__ import annotations

from tests.unit.conftest import collect  # noqa: F401  (a fixture)
