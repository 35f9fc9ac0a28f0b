"""Chooses the dtype in which a model is fastest on this CPU, among those that hold its weights exactly."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch

from inference.engine.devices import free_host_bytes
from inference.engine.product_choice import PREFILL_ROWS, Seconds, Shape, mean_ratio, measure
from inference.engine.products import usable_forms

logger = logging.getLogger(__name__)

#: One token of a single stream, one of eight streams, and a prompt or image count the same.
_ROWS = (1, 8, PREFILL_ROWS)
#: What a model needs beside its weights, as a factor: keys and values, and the states of a prompt.
_ROOM = 1.2
#: float32 gives way only to a dtype that is clearly faster: workers on equal machines must choose the same one, because
#: a session is continued only in the dtype in which it began
_MARGIN = 1.25


def fastest_dtype(meta_model: Any, stored: torch.dtype, *, threads: int | None) -> torch.dtype:
    """The dtype for a model whose weights are ``stored`` in this dtype.

    ``meta_model`` is the model without its weights, on the meta device. The candidates are ``stored`` and float32,
    which holds all numbers of the shorter dtypes: no weight is rounded. Products with the decoder's weights are timed,
    each in its fastest form. ``threads`` is the number that torch will have.
    """
    if stored not in (torch.bfloat16, torch.float16):
        return stored
    free = free_host_bytes()
    parameters = sum(weight.numel() for weight in meta_model.parameters())
    if parameters * torch.float32.itemsize * _ROOM > free:
        logger.info("the weights stay %s: in float32 they would not fit into the %.1f GB free", stored, free / 1e9)
        return stored
    counts = Counter(_decoder_shapes(meta_model))
    if not counts:
        return stored
    short, wide = (_seconds(counts, dtype, threads or torch.get_num_threads()) for dtype in (stored, torch.float32))
    ratio = mean_ratio(wide, short)
    chosen = stored if ratio > _MARGIN else torch.float32
    figures = "; ".join(
        f"{rows} row{'s' if rows > 1 else ''}: {1e3 * short[rows]:.2f} and {1e3 * wide[rows]:.2f} ms" for rows in _ROWS
    )
    logger.info("the weights are %s on this CPU; products of a step in %s and float32: %s", chosen, stored, figures)
    return chosen


def _decoder_shapes(meta_model: Any) -> Iterator[tuple[int, int]]:
    for module in meta_model.get_decoder().modules():
        if type(module) is torch.nn.Linear:
            yield module.out_features, module.in_features


def _seconds(counts: Counter[tuple[int, int]], dtype: torch.dtype, threads: int) -> Seconds:
    """Rows → seconds of all products of the decoder's layers."""
    total = dict.fromkeys(_ROWS, 0.0)
    for (outputs, inputs), count in counts.items():
        timings = measure(Shape(outputs, inputs, dtype), count, _ROWS, usable_forms(dtype), threads)
        best = min(timings.values(), key=lambda seconds: mean_ratio(seconds, next(iter(timings.values()))))
        for rows in _ROWS:
            total[rows] += count * best[rows]
    return total
