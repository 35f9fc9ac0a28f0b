"""The fuzzer draws the same inputs again, makes findings small, and sees what a loader does."""

from __future__ import annotations

import random

import pytest

from benchmarks.fuzz.child import Outcome, input_of, outcome
from benchmarks.fuzz.loaders import LOADERS, Loader
from benchmarks.fuzz.mutate import mutate, shrink


@pytest.mark.parametrize("name", LOADERS)
def test_an_input_is_the_same_each_time_and_no_other(name: str) -> None:
    loader = LOADERS[name]
    samples = list(loader.samples())
    first = [input_of(loader, samples, 1, number) for number in range(20)]
    assert first == [input_of(loader, samples, 1, number) for number in range(20)]
    assert len(set(first)) > 15
    assert first != [input_of(loader, samples, 2, number) for number in range(20)]


@pytest.mark.parametrize("name", LOADERS)
def test_the_samples_themselves_are_no_findings_and_most_are_accepted(name: str) -> None:
    loader = LOADERS[name]
    kinds = [outcome(loader, sample).kind for sample in loader.samples()]
    assert set(kinds) <= {"accepted", "refused"}
    assert kinds.count("refused") <= 1


def test_even_nothing_can_be_mutated() -> None:
    rng = random.Random(1)
    assert all(isinstance(mutate(rng, [b""], tokens), bytes) for tokens in ([], [b"x"]) for _ in range(500))


def test_what_is_not_needed_for_a_finding_is_left_out() -> None:
    assert shrink(b"aaaa!aaaaaaa?aa", lambda data: b"!" in data and b"?" in data, tries=1000) == b"!?"
    assert len(shrink(b"a" * 64, lambda data: True, tries=3)) < 64


def test_an_exception_is_a_finding_with_its_place() -> None:
    def read(data: bytes) -> bool:
        raise KeyError(data)

    found = outcome(Loader("a", lambda: [], read), b"x")
    assert (found.kind, found.message) == ("raised", "b'x'")
    assert found.where.startswith("KeyError at tests/unit/test_benchmarks_fuzz.py:")


def test_what_takes_all_memory_is_a_finding() -> None:
    def read(data: bytes) -> bool:
        raise MemoryError

    assert outcome(Loader("a", lambda: [], read), b"x") == Outcome("memory", "MemoryError")
