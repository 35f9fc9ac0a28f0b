"""Measures in which form a weight is fastest on this CPU, for the numbers of rows that occur.

No form is best everywhere: it depends on the shape, the number of rows, the threads and the instructions of the CPU.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import pathlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from inference.engine.products import Form, Product, make_product

logger = logging.getLogger(__name__)

#: rows of decode steps; those up to the size of the batch are measured
DECODE_ROWS = (1, 8, 16, 32)
#: stands for a chunk of a prompt, or an image: above it the time of one row hardly changes
PREFILL_ROWS = 128

#: of a larger weight a part is measured
_MEASURED_BYTES = 2**24
#: Weights take turns in a timing, as many as make this many times the last-level cache: a weight that is alone would
#: stay in a cache in which the weights of a model do not.
_POOL_CACHES = 2
#: at most so many weights take turns
_MAX_COPIES = 256
#: from this number of rows on a quarter of the weights takes turns: arithmetic takes longer than reading
_MANY_ROWS = 32
#: of the first core, on Linux
_CACHES = pathlib.Path("/sys/devices/system/cpu/cpu0/cache")
#: size of the last-level cache, where the system does not tell it; larger ones count as this one
_CACHE_BYTES = 2**25
#: how many products are timed to see whether the cores are free
_LOOKS = 100
#: how often to check whether threads share a product; every check must find it
_SHARING_TRIES = 3
#: lists the threads of this process, on Linux
_TASKS = pathlib.Path("/proc/self/task")
#: how often each form is timed
ROUNDS = 4
#: All threads together are timed for no longer than this with each number of rows, or once.
_MOST_SECONDS = 2.0
#: one timing takes at least this long
_TIMING_SECONDS = 2e-4
#: a form gives way only to one that is faster by this factor, so that noise decides little
_MARGIN = 1.05
#: the largest difference between two forms, to the largest number in the result: sums are rounded in another order
_ROUNDING = {torch.float32: 1e-4, torch.bfloat16: 0.02, torch.float16: 0.005}
#: a single stream counts twice
_IMPORTANCE = {1: 2.0}


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape and dtype of a weight."""

    outputs: int
    inputs: int
    dtype: torch.dtype

    @property
    def nbytes(self) -> int:
        return self.outputs * self.inputs * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.inputs}→{self.outputs}"


#: rows → seconds of one product
Seconds = dict[int, float]
Timings = dict[Form, Seconds]


@functools.cache
def measure(
    shape: Shape,
    model_bytes: int,
    rows: tuple[int, ...],
    forms: tuple[Form, ...],
    threads: int,
    *,
    rounds: int = ROUNDS,
    together: bool = True,
) -> Timings:
    """Time products with weights of that shape in a model whose weights take ``model_bytes``; takes a second or two.

    All threads compute together, if their cores are free. Otherwise they would wait for each other whenever another
    program needs a core. If they are not free, or without ``together``, one thread computes its share, a
    ``threads``-th of the outputs, and its processor time is measured. Where the threads do not share a single row, it
    computes all of it.

    The forms take turns, and the fastest of ``rounds`` counts. A form that raises an error, or whose product differs
    from the plain one beyond rounding, is left out. The plain form is always in the result. The weights of all forms
    take up to 192 MB meanwhile.
    """
    computing = threads if together and threads > 1 and cores_are_free(threads) else 1
    clock = time.perf_counter if computing > 1 else time.thread_time
    part = shape.outputs * computing // threads
    share = max(1, min(part, _MEASURED_BYTES // (shape.inputs * shape.dtype.itemsize)))
    pool_bytes = min(model_bytes, _POOL_CACHES * last_level_cache_bytes())
    copies = min(max(1, pool_bytes // (share * shape.inputs * shape.dtype.itemsize)), _MAX_COPIES)
    first = _random(share, shape)
    weights = [first, *(first.clone() for _ in range(copies - 1))]
    states = {number: _random(number, shape) for number in rows}
    with torch.inference_mode(), torch_threads(computing):
        held = {Form.PLAIN: [make_product(Form.PLAIN, weight) for weight in weights]}
        expected = {number: held[Form.PLAIN][0](states[number]) for number in rows}
        for form in forms:
            products = _checked(form, weights, states, expected)
            if products:
                held[form] = products
        found: Timings = {form: {} for form in held}
        for number in rows:
            used = copies if number < _MANY_ROWS else max(1, copies // 4)
            turns = {form: products[:used] for form, products in held.items()}
            once = _timed(turns[Form.PLAIN], states[number], 1, clock)
            passes = max(1, math.ceil(_TIMING_SECONDS / max(once, 1e-7)))
            best = dict.fromkeys(held, math.inf)
            end = time.monotonic() + _MOST_SECONDS
            for _ in range(rounds):
                for form, products in turns.items():
                    best[form] = min(best[form], _timed(products, states[number], passes, clock))
                if computing > 1 and time.monotonic() > end:
                    # Another program may have taken a core since.
                    cores_are_free.cache_clear()
                    if not cores_are_free(threads):
                        return measure(shape, model_bytes, rows, forms, threads, rounds=rounds, together=together)
                    break
            for form, seconds in best.items():
                is_share = computing == 1 and (number > 1 or shares_one_row(form, shape.dtype, threads))
                sharing = threads if is_share else 1
                found[form][number] = seconds / (passes * used) * shape.outputs / (share * sharing)
    return found


def _checked(
    form: Form, weights: Sequence[torch.Tensor], states: dict[int, torch.Tensor], expected: dict[int, torch.Tensor]
) -> list[Product]:
    """Products in that form; none where it raises an error, or differs from what is ``expected`` of the first weight.

    ``states`` and ``expected`` are by the number of rows.
    """
    dtype, shape = weights[0].dtype, "→".join(map(str, reversed(weights[0].shape)))
    try:
        products = [make_product(form, weight) for weight in weights]
        for rows, right in expected.items():
            difference = (products[0](states[rows]) - right).abs().max() / right.abs().max()
            # Also for a difference that is not a number.
            if not difference.item() <= _ROUNDING[dtype]:
                logger.warning("%s products %s in %s are wrong for %d rows, and not used", form, shape, dtype, rows)
                return []
    except RuntimeError as error:
        reason = (str(error).splitlines() or [""])[0]
        logger.warning("there are no %s products %s in %s on this CPU: %s", form, shape, dtype, reason)
        return []
    return products


@functools.cache
def cores_are_free(threads: int) -> bool:
    """Whether ``threads`` threads compute a product together without waiting for cores that other programs use.

    Then nearly every product takes about as long as the fastest. This is checked once, so that all products are
    measured in the same way, and again when a measurement takes too long. It takes 50 ms, or a second on busy cores.
    """
    shape = Shape(512, 512, torch.float32)
    product, states = make_product(Form.PLAIN, _random(512, shape)), _random(PREFILL_ROWS, shape)
    with torch.inference_mode(), torch_threads(threads):
        product(states)
        seconds = sorted(_timed([product], states, 1, time.perf_counter) for _ in range(_LOOKS))
    return seconds[round(0.9 * _LOOKS)] <= 2 * seconds[0]


@functools.cache
def shares_one_row(form: Form, dtype: torch.dtype, threads: int) -> bool:
    """Whether torch's threads share the product of one row, which MKL computes on one thread in float32."""
    if threads == 1:
        return True
    product, states = make_product(form, _random(2048, Shape(2048, 1024, dtype))), _random(1, Shape(1, 1024, dtype))
    with torch_threads(threads):
        # A thread that begins elsewhere in the process at that moment must not count as a helper.
        return all(_starts_helpers(lambda: product(states)) for _ in range(_SHARING_TRIES))


def _starts_helpers(compute: Callable[[], object]) -> bool:
    """Whether ``compute`` brings new threads into the process, called in a thread that has no helpers yet.

    Always true where the system does not list a process's threads.
    """
    if not _TASKS.exists():
        return True
    new: list[set[pathlib.Path]] = []

    @torch.inference_mode()
    def run() -> None:
        before = set(_TASKS.iterdir())
        compute()
        new.append(set(_TASKS.iterdir()) - before)

    thread = threading.Thread(target=run, name="looks-for-helpers", daemon=True)
    thread.start()
    thread.join()
    return bool(new and new[0])


@functools.cache
def last_level_cache_bytes() -> int:
    """Of the first core; at most ``_CACHE_BYTES``."""
    sizes = []
    with contextlib.suppress(OSError):
        for file in _CACHES.glob("index*/size"):
            if found := re.fullmatch(r"(\d+)K", file.read_text().strip()):
                sizes.append(1024 * int(found[1]))
    return min(max(sizes, default=_CACHE_BYTES), _CACHE_BYTES)


def fastest(timings: Timings) -> Form:
    """The form with the smallest mean of ratios over the numbers of rows. Forms are listed from the simplest on."""
    chosen, *others = timings
    for form in others:
        if mean_ratio(timings[chosen], timings[form]) > _MARGIN:
            chosen = form
    return chosen


def mean_ratio(some: Seconds, others: Seconds) -> float:
    """How many times longer ``some`` take than ``others``: the geometric mean over the numbers of rows."""
    weights = {rows: _IMPORTANCE.get(rows, 1.0) for rows in some}
    total = sum(weight * math.log(some[rows] / others[rows]) for rows, weight in weights.items())
    return math.exp(total / sum(weights.values()))


@contextlib.contextmanager
def torch_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _random(rows: int, shape: Shape) -> torch.Tensor:
    return torch.randn(rows, shape.inputs).div_(math.sqrt(shape.inputs)).to(shape.dtype)


def _timed(products: Sequence[Product], states: torch.Tensor, passes: int, clock: Callable[[], float]) -> float:
    started = clock()
    for _ in range(passes):
        for product in products:
            product(states)
    return clock() - started
