"""Attention for training on a processor, where Transformers' and torch's own take most of a step.

Torch's fused attention multiplies in float32 there, and a processor that multiplies bfloat16 (AVX-512 BF16, AMX) does
that several times quicker. Blocks of rows are small enough that the scores stay in its cache.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: rows of queries whose scores are worked out together
BLOCK_ROWS = 256


def attend(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    """Scaled dot-product attention of [rows, heads, tokens, width]; fewer heads of keys and values are shared."""
    if query.device.type != "cpu":
        kind = value.dtype
        shared = query.shape[1] != key.shape[1]
        return F.scaled_dot_product_attention(query.to(kind), key.to(kind), value, is_causal=causal, enable_gqa=shared)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = (part.repeat_interleave(groups, dim=1) for part in (key, value))
    if torch.is_autocast_enabled("cpu"):
        with torch.autocast("cpu", enabled=False):
            out: Tensor = _Blocks.apply(query.bfloat16(), key.bfloat16(), value.bfloat16(), causal)
            return out
    return F.scaled_dot_product_attention(query, key, value, is_causal=causal)


class _Blocks(torch.autograd.Function):
    """Softmax attention in bfloat16 by blocks of rows, which keeps its weights for the backward pass."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, causal: bool) -> Tensor:
        scaled = query * query.shape[-1] ** -0.5
        out = torch.empty_like(query)
        kept = []
        for row in range(len(query)):
            for start, end, seen in _blocks(query.shape[2], causal):
                scores = scaled[row, :, start:end] @ key[row, :, :seen].transpose(1, 2)
                if causal:
                    scores[:, :, start:] += _later(end - start, scores)
                shares = scores.softmax(-1)
                out[row, :, start:end] = shares @ value[row, :, :seen]
                kept.append(shares)
        ctx.causal = causal
        ctx.save_for_backward(scaled, key, value, out, *kept)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        scaled, key, value, out, *kept = ctx.saved_tensors
        given = gradients[0].contiguous()
        to_query = torch.empty_like(scaled)
        to_key, to_value = torch.zeros_like(key), torch.zeros_like(value)
        # Per query: the sum of output times gradient, which the softmax's backward pass subtracts from each gradient.
        pull = (given * out).sum(-1, keepdim=True, dtype=torch.float32).to(given.dtype)
        blocks = iter(kept)
        for row in range(len(scaled)):
            for start, end, seen in _blocks(scaled.shape[2], ctx.causal):
                shares = next(blocks)
                back = given[row, :, start:end]
                to_value[row, :, :seen] += shares.transpose(1, 2) @ back
                scores = back @ value[row, :, :seen].transpose(1, 2)
                scores.sub_(pull[row, :, start:end]).mul_(shares)
                to_query[row, :, start:end] = scores @ key[row, :, :seen]
                to_key[row, :, :seen] += scores.transpose(1, 2) @ scaled[row, :, start:end]
        return to_query * scaled.shape[-1] ** -0.5, to_key, to_value, None


def _blocks(tokens: int, causal: bool) -> list[tuple[int, int, int]]:
    """The first row, the end row, and the number of keys that these rows see."""
    if not causal:
        return [(0, tokens, tokens)]
    ends = [min(start + BLOCK_ROWS, tokens) for start in range(0, tokens, BLOCK_ROWS)]
    return [(start, end, end) for start, end in zip([0, *ends], ends, strict=False)]


def _later(rows: int, like: Tensor) -> Tensor:
    return torch.full((rows, rows), float("-inf"), dtype=like.dtype).triu_(1)
