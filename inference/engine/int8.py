"""Eight bits for the weights of a model on a CPU.

A weight has one scale for each output. The states (activations) are rounded to eight bits as well when a product is
computed, with a scale for each row, so that the CPU's integer products can be used (VNNI, AMX). The other rows of the
batch do not affect a row.

States are signed, or unsigned with 128 for zero; both give the same products. The CPU decides for which of them oneDNN
has a kernel: with VNNI and without AMX it computes signed ones a thousand times as slowly. Without VNNI its kernels add
two products in 16 bits, which overflows with eight bits, so states have seven bits there. All three kinds are tried.
"""

from __future__ import annotations

import functools
import time
from typing import NamedTuple

import torch

from inference.engine.errors import LoadError

#: the largest magnitude of a weight; -128 is not used
LARGEST = 127
#: elements of a weight that are rounded at a time
_PART = 2**22
#: rows for which oneDNN lays out the bytes; other numbers of rows work too
_PACKED_FOR_ROWS = 8


class States(NamedTuple):
    """How states are rounded."""

    dtype: torch.dtype
    #: the number that stands for zero
    zero: int
    #: the largest number, without ``zero``
    largest: int


_KINDS = (States(torch.uint8, 128, LARGEST), States(torch.int8, 0, LARGEST), States(torch.uint8, 64, 63))
#: A later kind is used only if it is faster than all earlier ones by this factor. A reference kernel is slower by far
#: more, and noise must not decide: workers on equal machines must choose the same kind.
_MARGIN = 10.0
#: outputs, inputs and rows of the product with which they are tried
_TRIED = (512, 512, 8)
#: largest accepted error of a row of a product, relative to its norm; rounding to eight bits causes about 0.01
_LARGEST_ERROR = 0.05
#: a row of zeros has no scale of its own
_SMALLEST_SCALE = 1e-12


class Int8Product:
    """A product with a weight of bytes, through oneDNN."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None, states: States | None = None) -> None:
        """``states`` is the kind to use, by default the best one on this CPU.

        Raises RuntimeError or AttributeError where torch has no such product.
        """
        self._states = states or fastest_states()
        outputs, inputs = weight.shape
        values, self._scales = torch.empty(outputs, inputs, dtype=torch.int8), torch.empty(outputs)
        # In parts: rounding the whole weight at once needs nine bytes of temporary memory for each element.
        step = max(1, _PART // inputs)
        for part in (slice(start, start + step) for start in range(0, outputs, step)):
            rounded, scales = _rounded(weight[part].detach().float(), LARGEST)
            values[part], self._scales[part] = rounded.to(torch.int8), scales.squeeze(1)
        self._weight = torch.ops.onednn.qlinear_prepack(values, [_PACKED_FOR_ROWS, inputs])
        self._zeros = torch.zeros(outputs, dtype=torch.int32)
        self.bias = bias

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        rows, scales = _rounded(states.reshape(-1, states.shape[-1]).float(), self._states.largest)
        if self._states.zero:
            rows += self._states.zero
        product = torch.ops.onednn.qlinear_pointwise(
            rows.to(self._states.dtype),
            1.0,
            self._states.zero,
            self._weight,
            self._scales,
            self._zeros,
            None,
            1.0,
            0,
            torch.float32,
            "none",
            [],
            "",
        ).mul_(scales)
        if self.bias is not None:
            product += self.bias
        return product.to(states.dtype).view(*states.shape[:-1], -1)

    def added_to(self, hidden: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        return self(states).add_(hidden)


@functools.cache
def fastest_states() -> States:
    """The kind of states with which products are right and fast on this CPU.

    Raises LoadError where this build of torch has no products of bytes on this CPU, or wrong ones only.
    """
    outputs, inputs, rows = _TRIED
    noise = torch.Generator().manual_seed(0)
    weight, states = (torch.randn(number, inputs, generator=noise) for number in (outputs, rows))
    # The largest possible sums, to detect an overflow.
    weight[0], states[0] = 1.0, 1.0
    expected = states @ weight.t()
    seconds: dict[States, float] = {}
    reason = "the products with bytes are wrong"
    for kind in _KINDS:
        try:
            product = Int8Product(weight, states=kind)
            found = product(states)
        except (AttributeError, RuntimeError) as error:
            reason = (str(error).splitlines() or [""])[0]
            continue
        if ((found - expected).norm(dim=1) / expected.norm(dim=1)).max().item() < _LARGEST_ERROR:
            seconds[kind] = min(_timed(product, states) for _ in range(3))
    if not seconds:
        raise LoadError(f"quantization is '8bit', which this torch cannot do on this CPU: {reason}.")
    fastest = min(seconds.values())
    return next(kind for kind in _KINDS if kind in seconds and seconds[kind] <= _MARGIN * fastest)


def _timed(product: Int8Product, states: torch.Tensor) -> float:
    started = time.perf_counter()
    product(states)
    return time.perf_counter() - started


def _rounded(values: torch.Tensor, largest: int) -> tuple[torch.Tensor, torch.Tensor]:
    """[rows, columns] as whole numbers up to ``largest``, in float32, and the scale of each row, [rows, 1]."""
    scales = values.abs().amax(dim=1, keepdim=True).clamp_min_(_SMALLEST_SCALE).div_(largest)
    return (values / scales).round_(), scales
