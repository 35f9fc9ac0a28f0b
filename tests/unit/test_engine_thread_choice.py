from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from inference.engine.engine import Engine
from inference.engine.loading import load_model
from inference.engine.thread_choice import _FIRST_PAUSE, _LAST_PAUSE, _TRIAL_STEPS, ThreadChoice, candidates
from inference.tiny_models.text import build_tiny_text_model


class Machine:
    """Steps that take as long as ``seconds`` says for a number of threads."""

    def __init__(self, most: int, seconds: dict[int, float]) -> None:
        self.seconds = seconds
        self.now = 0.0
        self.threads = most
        self.choice = ThreadChoice(most, set_threads=self._set, clock=lambda: self.now)
        self.changes = 0
        self.tried = set[int]()

    def _set(self, number: int) -> None:
        self.threads = number
        self.tried.add(number)
        self.changes += 1

    def compute(self, steps: int, *, rows: int = 8, times: float = 1.0) -> list[int]:
        """The threads that each step had."""
        used = []
        for _ in range(steps):
            with self.choice.step(rows):
                used.append(self.threads)
                self.now += times * self.seconds[self.threads]
        return used


@pytest.fixture(scope="module")
def tiny_text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_text_model(tmp_path_factory.mktemp("text") / "model")


#: far less than preparing kernels takes
SHORT = 0.001
TRIAL = 2 * (1 + _TRIAL_STEPS)


@pytest.mark.parametrize(
    ("most", "numbers"), [(1, (1,)), (2, (2, 1)), (3, (3, 2, 1)), (4, (4, 3, 2, 1)), (16, (16, 15, 8, 1))]
)
def test_all_threads_one_less_half_and_one_are_tried(most: int, numbers: tuple[int, ...]) -> None:
    assert candidates(most) == numbers


def test_with_one_thread_nothing_is_tried() -> None:
    machine = Machine(1, {1: SHORT})
    assert set(machine.compute(500)) == {1}
    assert machine.changes == 0


@pytest.mark.parametrize(("two", "one", "best"), [(1.0, 0.8, 1), (0.7, 1.0, 2), (1.0, 0.98, 2)])
def test_the_faster_number_is_taken_and_of_about_equal_ones_the_present(two: float, one: float, best: int) -> None:
    machine = Machine(2, {2: two * SHORT, 1: one * SHORT})
    assert machine.compute(1) == [2]
    machine.compute(TRIAL - 1)
    assert set(machine.compute(_FIRST_PAUSE)) == {best}


def test_the_number_changes_when_the_machine_does() -> None:
    machine = Machine(2, {2: 1.0 * SHORT, 1: 0.6 * SHORT})
    machine.compute(200)
    machine.seconds = {2: 0.6 * SHORT, 1: 1.0 * SHORT}
    used = machine.compute(3 * _LAST_PAUSE)
    assert used[-1] == 2


def test_trials_become_rare() -> None:
    machine = Machine(2, {2: 0.6 * SHORT, 1: 1.0 * SHORT})
    machine.compute(4 * _LAST_PAUSE)
    used = machine.compute(4 * _LAST_PAUSE)
    assert 0 < used.count(1) <= 5 * (1 + _TRIAL_STEPS)


def test_the_best_of_all_is_found() -> None:
    machine = Machine(16, {16: 1.0 * SHORT, 15: 0.8 * SHORT, 8: 0.5 * SHORT, 1: 2.0 * SHORT})
    assert machine.compute(1000)[-1] == 8
    machine = Machine(16, {16: 1.0 * SHORT, 15: 0.8 * SHORT, 8: 0.5 * SHORT, 1: 0.1 * SHORT})
    assert machine.compute(1000)[-1] == 1


def test_a_number_that_is_far_slower_ends_its_trial_and_no_smaller_one_is_tried() -> None:
    machine = Machine(16, {16: 0.5, 15: 0.53, 8: 1.1, 1: 8.0})
    machine.compute(2000)
    assert machine.threads == 16
    assert machine.tried == {16, 15, 8}
    # One step each time.
    assert 1 <= machine.compute(3000).count(8) <= 3


def test_the_smallest_is_tried_where_half_is_not_far_slower() -> None:
    machine = Machine(16, {16: 1.0 * SHORT, 15: 1.0 * SHORT, 8: 1.2 * SHORT, 1: 0.5 * SHORT})
    assert machine.compute(1000)[-1] == 1


def test_between_steps_all_threads_can_be_used() -> None:
    machine = Machine(2, {2: 1.0 * SHORT, 1: 0.5 * SHORT})
    machine.compute(TRIAL + 1)
    assert machine.threads == 1
    machine.choice.use_all()
    assert machine.threads == 2


def test_numbers_of_rows_have_choices_of_their_own() -> None:
    machine = Machine(2, {2: 1.0 * SHORT, 1: 0.5 * SHORT})
    machine.compute(TRIAL, rows=8)
    assert machine.compute(1, rows=15) == [1]
    assert machine.compute(1, rows=16) == machine.compute(1, rows=7) == [2]


def test_a_slow_first_step_and_one_that_fails_are_not_counted() -> None:
    machine = Machine(2, {2: 1.0 * SHORT, 1: 0.8 * SHORT})
    machine.compute(1 + _TRIAL_STEPS)
    assert machine.compute(1, times=100) == [1]
    with pytest.raises(RuntimeError), machine.choice.step(8):
        machine.now += 1000
        raise RuntimeError("out of memory")
    machine.compute(_TRIAL_STEPS)
    assert set(machine.compute(_FIRST_PAUSE)) == {1}


def test_an_engine_tries_and_restores_the_threads(tiny_text_folder: Path, make_request: Any, collect: Any) -> None:
    loaded = load_model(str(tiny_text_folder), dtype="float32", device_map="cpu")
    before = torch.get_num_threads()
    used = set[int]()
    torch.set_num_threads(2)
    try:
        engine = Engine(loaded, max_batch_size=1, after_step=lambda: used.add(torch.get_num_threads()))
        engine.start()
        collect(engine.submit(make_request(max_tokens=300, ignore_eos=True)))
        assert engine.stop(timeout_seconds=20)
        assert used == {1, 2}
        # What a new thread gets.
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(torch.get_num_threads).result() == 2
    finally:
        torch.set_num_threads(before)


def test_an_engine_with_a_number_of_threads_keeps_it(tiny_text_folder: Path, make_request: Any, collect: Any) -> None:
    loaded = load_model(str(tiny_text_folder), dtype="float32", device_map="cpu")
    before = torch.get_num_threads()
    used = set[int]()
    try:
        engine = Engine(loaded, max_batch_size=1, torch_threads=2, after_step=lambda: used.add(torch.get_num_threads()))
        engine.start()
        collect(engine.submit(make_request(max_tokens=100, ignore_eos=True)))
        assert engine.stop(timeout_seconds=20)
        assert used == {2}
    finally:
        torch.set_num_threads(before)
