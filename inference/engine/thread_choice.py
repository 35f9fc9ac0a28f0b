"""Chooses how many threads compute a decode step, by trying other numbers now and then.

The threads of a product wait for each other, so each core that another process takes for a moment stops all of them.
A step has many small products. Whether the last core brings anything depends on the model, the number of rows, and what
else runs on the machine: with two cores, steps that take 33 ms on two threads and 55 on one, when nothing else runs,
took 70 and 57 while they were served.
"""

from __future__ import annotations

import contextlib
import logging
import statistics
import time
from collections.abc import Callable, Iterator

import torch

logger = logging.getLogger(__name__)

#: A number of threads is tried for so many steps, and one more at the beginning, which is not counted: oneDNN prepares
#: its kernels for each number of threads.
_TRIAL_STEPS = 8
#: steps between two trials; they double from the first to the last
_FIRST_PAUSE, _LAST_PAUSE = 16, 1024
#: another number is taken if its steps take at most this share of the time
_GAIN = 0.97
#: A trial ends at the first step that takes this many times as long. Then no smaller number is tried.
_LOSS = 2.0
#: A first step with a number is judged only if it takes longer than preparing the kernels does.
_PREPARING_SECONDS = 0.2


def candidates(most: int) -> tuple[int, ...]:
    """All threads, one less, half of them, and one."""
    return tuple(dict.fromkeys(number for number in (most, most - 1, most // 2, 1) if number))


class ThreadChoice:
    """The number of torch's threads for decode steps, by their number of rows. Used by the model thread only."""

    def __init__(
        self,
        most: int,
        *,
        set_threads: Callable[[int], None] = torch.set_num_threads,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._numbers = candidates(most)
        self._set_threads = set_threads
        self._clock = clock
        #: by the number of bits of the number of rows: 8 to 15 rows share a choice
        self._choices: dict[int, _Choice] = {}
        self._current = most

    @contextlib.contextmanager
    def step(self, rows: int) -> Iterator[None]:
        """Compute a step with the best number of threads so far, or with another one to try it.

        A step that raises an error is not counted.
        """
        if len(self._numbers) == 1:
            yield
            return
        choice = self._choices.get(rows.bit_length())
        if choice is None:
            choice = self._choices[rows.bit_length()] = _Choice(f"decode steps of about {rows} rows", self._numbers)
        self._use(choice.threads)
        started = self._clock()
        yield
        choice.add(self._clock() - started)

    def use_all(self) -> None:
        """Compute with all threads until the next step. Threads that begin later get the number that was set last."""
        self._use(self._numbers[0])

    def _use(self, threads: int) -> None:
        if self._current != threads:
            self._current = threads
            self._set_threads(threads)


class _Choice:
    """For steps of a size: the best number of threads, and the trial of another one."""

    def __init__(self, name: str, numbers: tuple[int, ...]) -> None:
        self._name = name
        self._numbers = numbers
        self._best = numbers[0]
        #: in the order in which they are tried
        self._others = list(numbers[1:])
        #: the number for the next step
        self.threads = self._best
        #: seconds of a step with the best number, just before the trial; None while that is measured
        self._to_beat: float | None = None
        self._pause = 0
        self._next_pause = _FIRST_PAUSE
        #: the first one is not counted
        self._seconds: list[float] = []

    def add(self, seconds: float) -> None:
        """A step with ``threads`` took so long."""
        if self._pause:
            self._pause -= 1
            return
        self._seconds.append(seconds)
        is_judged = len(self._seconds) > 1 or seconds > _PREPARING_SECONDS
        if self._to_beat is not None and seconds > _LOSS * self._to_beat and is_judged:
            self._decide(seconds, self._to_beat)
        elif len(self._seconds) == 1 + _TRIAL_STEPS:
            found = statistics.mean(self._seconds[1:])
            if self._to_beat is None:
                self._begin(self._others[0], to_beat=found)
            else:
                self._decide(found, self._to_beat)

    def _begin(self, threads: int, *, to_beat: float | None) -> None:
        self.threads, self._to_beat, self._seconds = threads, to_beat, []

    def _decide(self, found: float, to_beat: float) -> None:
        tried, ratio = self.threads, found / to_beat
        if ratio <= _GAIN:
            logger.info(
                "%s have %d threads from now on: they take %.2f of the time with %d",
                *(self._name, tried, ratio, self._best),
            )
            self._best = tried
        is_bound = ratio > _LOSS and tried < self._best
        # The others in turn, beginning after the one that was tried.
        order = [*self._numbers[self._numbers.index(tried) + 1 :], *self._numbers]
        self._others = [n for n in dict.fromkeys(order) if n != self._best and not (is_bound and n < tried)]
        self._begin(self._best, to_beat=None)
        self._pause = self._next_pause
        self._next_pause = min(2 * self._next_pause, _LAST_PAUSE)
