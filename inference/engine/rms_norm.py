"""RMS norms of the fused layers."""

from __future__ import annotations

import math

import torch
from torch.nn import functional


class RmsNorm:
    """x · weight / √(mean(x²) + ε), over the last dimension (Zhang and Sennrich 2019, with the ε of Llama and Qwen).

    torch computes it on a CPU in seven operations. For a few short rows the number of operations is what counts, so in
    float32 it is x · (weight · √n) / hypot(‖x‖, √(n·ε)) here, which is four.
    """

    def __init__(self, weight: torch.Tensor, epsilon: float) -> None:
        """``weight`` is [size], or [heads, size] where each head has its own."""
        self._weight = weight
        self._epsilon = epsilon
        self._scaled: torch.Tensor | None = None
        if weight.device.type == "cpu" and weight.dtype == torch.float32:
            size = weight.shape[-1]
            self._scaled = weight * math.sqrt(size)
            self._floor = torch.tensor(math.sqrt(size * epsilon))

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """[..., size], or [..., heads, size] → the same shape, in a new tensor."""
        if self._scaled is not None:
            length = torch.linalg.vector_norm(states, dim=-1, keepdim=True).hypot_(self._floor)
            return (states * self._scaled).div_(length)
        size = self._weight.shape[-1:]
        if self._weight.dim() == 1:
            return functional.rms_norm(states, size, self._weight, self._epsilon)
        return functional.rms_norm(states, size, None, self._epsilon) * self._weight
