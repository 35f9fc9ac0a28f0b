"""Attention in blocks of bfloat16 gives what torch's own gives, forwards and backwards."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from training import attention


def _parts(heads: int, shared: int, tokens: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(5)
    query, key, value = (torch.randn(2, count, tokens, 16, requires_grad=True) for count in (heads, shared, shared))
    return query, key, value


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("heads", "shared"), [(3, 3), (4, 2)])
def test_blocks_give_what_torch_gives_and_the_same_gradients(
    causal: bool, heads: int, shared: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several blocks, the last one shorter.
    monkeypatch.setattr(attention, "BLOCK_ROWS", 32)
    query, key, value = _parts(heads, shared, 70)
    pull = torch.randn(2, heads, 70, 16)
    theirs = F.scaled_dot_product_attention(query, key, value, is_causal=causal, enable_gqa=heads != shared)
    wanted = torch.autograd.grad((theirs * pull).sum(), (query, key, value))
    with torch.autocast("cpu"):
        ours = attention.attend(query, key, value, causal=causal)
    found = torch.autograd.grad((ours * pull).sum(), (query, key, value))
    # bfloat16 has eight bits.
    assert (ours - theirs).abs().max() < 0.03
    for mine, right in zip(found, wanted, strict=True):
        assert (mine - right).norm() < 0.02 * right.norm()


def test_without_autocast_it_is_exact() -> None:
    query, key, value = _parts(2, 2, 20)
    theirs = F.scaled_dot_product_attention(query, key, value, is_causal=True)
    assert torch.equal(attention.attend(query, key, value, causal=True), theirs)
