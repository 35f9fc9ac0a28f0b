"""Chooses the dtype in which a model is fastest on this CPU, among those that hold its weights exactly."""

from __future__ import annotations

import contextlib
import logging
import platform
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from inference.engine.devices import total_host_bytes
from inference.engine.kept_choices import kept_choice
from inference.engine.product_choice import PREFILL_ROWS, ROUNDS, Seconds, Shape, mean_ratio, measure
from inference.engine.products import usable_forms

logger = logging.getLogger(__name__)

#: One token of a single stream, one of eight streams, and a prompt or image count the same.
_ROWS = (1, 8, PREFILL_ROWS)
#: The share of main memory that the weights may take in float32; keys and values, and other programs, have the rest.
#: The memory that is free now would be another at the next start.
_SHARE = 0.6
#: float32 gives way only to a dtype that is clearly faster: workers on equal machines must choose the same one, because
#: a session is continued only in the dtype in which it began
_MARGIN = 1.25
#: of the way of measuring: a choice that was made in another way is not kept
_METHOD = 2
#: more than a form needs: a wrong form is a little slower, another dtype ends sessions
_ROUNDS = 3 * ROUNDS


def fastest_dtype(
    meta_model: Any, stored: torch.dtype, *, threads: int | None, revision: str = "", kept_in: Path | None = None
) -> torch.dtype:
    """The dtype for a model whose weights are ``stored`` in this dtype.

    ``meta_model`` is the model without its weights, on the meta device. The candidates are ``stored`` and float32,
    which holds all numbers of the shorter dtypes: no weight is rounded. Products with the decoder's weights are timed,
    each in its fastest form. ``threads`` is the number that torch will have. In the folder ``kept_in`` the choice is
    kept for that model ``revision``, CPU and number of threads.
    """
    if stored not in (torch.bfloat16, torch.float16):
        return stored
    if not _fits(sum(weight.numel() for weight in meta_model.parameters()) * torch.float32.itemsize, stored):
        return stored
    counts = Counter(_decoder_shapes(meta_model))
    if not counts:
        return stored
    threads = threads or torch.get_num_threads()
    options = {str(dtype).removeprefix("torch."): dtype for dtype in (stored, torch.float32)}

    def decide() -> str:
        chosen = _measured(counts, stored, threads)
        return next(name for name, dtype in options.items() if dtype == chosen)

    subject: dict[str, str | int] = {"method": _METHOD, "revision": revision, "cpu": _cpu_model(), "threads": threads}
    return options[kept_choice(kept_in, subject, tuple(options), decide)]


def dtype_beside_bytes(meta_model: Any, stored: torch.dtype) -> torch.dtype:
    """The dtype of states, and of the weights that stay wide, in a model whose other weights become bytes.

    Products of bytes begin and end in float32, so float32 saves conversions. It is taken where it fits.
    """
    embedding = meta_model.get_input_embeddings().weight
    weights = [module.weight for module in meta_model.modules() if type(module) is torch.nn.Linear]
    in_bytes = sum(weight.numel() for weight in weights)
    # An output layer that shares its weight with the embedding is there twice.
    replaced = sum(weight.numel() for weight in weights if weight is not embedding)
    wide = sum(weight.numel() for weight in meta_model.parameters()) - replaced
    return torch.float32 if _fits(in_bytes + wide * torch.float32.itemsize, stored) else stored


def _fits(weight_bytes: int, stored: torch.dtype) -> bool:
    total = total_host_bytes()
    if weight_bytes <= total * _SHARE:
        return True
    logger.info(
        "the weights stay %s: in float32 they would take %.1f GB, over %.0f %% of the memory of %.1f GB",
        *(stored, weight_bytes / 1e9, 100 * _SHARE, total / 1e9),
    )
    return False


def _measured(counts: Counter[tuple[int, int]], stored: torch.dtype, threads: int) -> torch.dtype:
    short, wide = (_seconds(counts, dtype, threads) for dtype in (stored, torch.float32))
    chosen = stored if mean_ratio(wide, short) > _MARGIN else torch.float32
    figures = "; ".join(
        f"{rows} row{'s' if rows > 1 else ''}: {1e3 * short[rows]:.2f} and {1e3 * wide[rows]:.2f} ms" for rows in _ROWS
    )
    logger.info("the weights are %s on this CPU; products of a step in %s and float32: %s", chosen, stored, figures)
    return chosen


def _cpu_model() -> str:
    """As in /proc/cpuinfo, with the instructions that torch uses: "AMD EPYC 7763 64-Core Processor, AVX2"."""
    names: list[str] = []
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor()}, {torch.backends.cpu.get_cpu_capability()}"


def _decoder_shapes(meta_model: Any) -> Iterator[tuple[int, int]]:
    for module in meta_model.get_decoder().modules():
        if type(module) is torch.nn.Linear:
            yield module.out_features, module.in_features


def _seconds(counts: Counter[tuple[int, int]], dtype: torch.dtype, threads: int) -> Seconds:
    """Rows → seconds of all products of the decoder's layers."""
    total = dict.fromkeys(_ROWS, 0.0)
    model_bytes = sum(count * Shape(*sizes, dtype).nbytes for sizes, count in counts.items())
    for (outputs, inputs), count in counts.items():
        # Not on all threads together: what else runs at the start must not decide the dtype.
        timings = measure(
            Shape(outputs, inputs, dtype),
            model_bytes,
            _ROWS,
            usable_forms(dtype),
            threads,
            rounds=_ROUNDS,
            together=False,
        )
        best = min(timings.values(), key=lambda seconds: mean_ratio(seconds, next(iter(timings.values()))))
        for rows in _ROWS:
            total[rows] += count * best[rows]
    return total
