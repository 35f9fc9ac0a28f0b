"""Eight bits for the weights of a model on a CPU.

A weight has one scale for each output. The states are rounded to eight bits as well when a product is computed, with a
scale for each row, so that the CPU's products of bytes can be used (VNNI, AMX). The other rows of the batch do not
affect a row.
"""

from __future__ import annotations

from typing import Any

import torch

from inference.engine.errors import LoadError

#: the largest number of a signed byte whose negative is one too
_LARGEST = 127
#: rows for which oneDNN lays out the bytes; other numbers of rows work too
_PACKED_FOR_ROWS = 8
#: a row of zeros has no scale of its own
_SMALLEST_SCALE = 1e-12


class Int8Product:
    """A product with a weight of bytes, through oneDNN."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        """Raises RuntimeError or AttributeError where torch has no such product."""
        values, scales = _rounded(weight.detach().float())
        self._weight = torch.ops.onednn.qlinear_prepack(values, [_PACKED_FOR_ROWS, weight.shape[1]])
        self._scales = scales.squeeze(1)
        self._zeros = torch.zeros(len(scales), dtype=torch.int32)
        self.bias = bias

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        rows, scales = _rounded(states.reshape(-1, states.shape[-1]).float())
        product = torch.ops.onednn.qlinear_pointwise(
            rows, 1.0, 0, self._weight, self._scales, self._zeros, None, 1.0, 0, torch.float32, "none", [], ""
        ).mul_(scales)
        if self.bias is not None:
            product += self.bias
        return product.to(states.dtype).view(*states.shape[:-1], -1)

    def added_to(self, hidden: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
        return self(states).add_(hidden)


def check_int8() -> None:
    """Raises LoadError where this build of torch has no products of bytes on this CPU, or wrong ones."""
    weight, states = torch.randn(64, 96), torch.randn(5, 96)
    try:
        found = Int8Product(weight)(states)
    except (AttributeError, RuntimeError) as error:
        reason = (str(error).splitlines() or [""])[0]
        raise LoadError(f"quantization is '8bit', which this torch cannot do on this CPU: {reason}") from error
    expected = states @ weight.t()
    if ((found - expected).norm() / expected.norm()).item() > 0.05:
        raise LoadError("quantization is '8bit', and the products of this torch with bytes are wrong on this CPU.")


def _rounded(values: torch.Tensor) -> tuple[torch.Tensor, Any]:
    """[rows, columns] as bytes, and the scale of each row, [rows, 1]."""
    scales = values.abs().amax(dim=1, keepdim=True).clamp_min_(_SMALLEST_SCALE).div_(_LARGEST)
    return (values / scales).round_().to(torch.int8), scales
