"""Measures in which form a weight is fastest on this CPU, for the numbers of rows that occur.

No form is best everywhere: it depends on the shape, the number of rows, the threads and the instructions of the CPU.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from inference.engine.products import Form, Product, make_product

logger = logging.getLogger(__name__)

#: rows of decode steps; those up to the size of the batch are measured
DECODE_ROWS = (1, 8, 16, 32)
#: stands for a chunk of a prompt, or an image: above it the time of one row hardly changes
PREFILL_ROWS = 128

#: Of a larger weight a part is measured. Of smaller ones several are, because one alone would stay in a cache in which
#: the weights of a model do not.
_MEASURED_BYTES = 2**24
#: how often each form is timed
ROUNDS = 4
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

    def __str__(self) -> str:
        return f"{self.inputs}→{self.outputs}"


#: rows → seconds of one product
Seconds = dict[int, float]
Timings = dict[Form, Seconds]


@functools.cache
def measure(
    shape: Shape, count: int, rows: tuple[int, ...], forms: tuple[Form, ...], threads: int, rounds: int = ROUNDS
) -> Timings:
    """Time products with weights of that shape, of which the model has ``count``; takes up to a second.

    What is measured is the processor time of one thread that computes its share, a ``threads``-th of the outputs:
    several threads would wait for each other whenever another program needs a core. The forms take turns, and the
    fastest of ``rounds`` counts. A form that raises an error, or whose product differs from the plain one beyond
    rounding, is left out. The plain form is always in the result.
    """
    share = max(1, min(shape.outputs // threads, _MEASURED_BYTES // (shape.inputs * shape.dtype.itemsize)))
    copies = max(1, min(count, _MEASURED_BYTES // (share * shape.inputs * shape.dtype.itemsize)))
    weights = [_random(share, shape) for _ in range(copies)]
    states = {number: _random(number, shape) for number in rows}
    with torch.inference_mode(), one_torch_thread():
        held = {Form.PLAIN: [make_product(Form.PLAIN, weight) for weight in weights]}
        expected = {number: held[Form.PLAIN][0](states[number]) for number in rows}
        for form in forms:
            products = _checked(form, weights, states, expected)
            if products:
                held[form] = products
        found: Timings = {form: {} for form in held}
        for number in rows:
            passes = max(1, math.ceil(_TIMING_SECONDS / max(_timed(held[Form.PLAIN], states[number], 1), 1e-7)))
            best = dict.fromkeys(held, math.inf)
            for _ in range(rounds):
                for form, products in held.items():
                    best[form] = min(best[form], _timed(products, states[number], passes))
            for form, seconds in best.items():
                found[form][number] = seconds / (passes * copies) * shape.outputs / (share * threads)
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
def one_torch_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _random(rows: int, shape: Shape) -> torch.Tensor:
    return torch.randn(rows, shape.inputs).div_(math.sqrt(shape.inputs)).to(shape.dtype)


def _timed(products: Sequence[Product], states: torch.Tensor, passes: int) -> float:
    started = time.thread_time()
    for _ in range(passes):
        for product in products:
            product(states)
    return time.thread_time() - started
