from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from inference.engine.rms_norm import RmsNorm

EPSILON = 1e-6


@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e-3, 1.0, 1e5, 1e17])
@pytest.mark.parametrize("rows", [1, 5])
def test_it_is_torchs_norm_in_fewer_operations(scale: float, rows: int) -> None:
    weight, states = torch.rand(96) + 0.5, scale * torch.randn(rows, 96)
    expected = functional.rms_norm(states.double(), (96,), weight.double(), EPSILON).float()
    torch.testing.assert_close(RmsNorm(weight, EPSILON)(states), expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_each_head_has_its_weight(dtype: torch.dtype) -> None:
    weight, states = torch.rand(3, 16).to(dtype), torch.randn(4, 3, 16).to(dtype)
    expected = functional.rms_norm(states.double(), (16,), None, EPSILON) * weight.double()
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    torch.testing.assert_close(RmsNorm(weight, EPSILON)(states).double(), expected, rtol=tolerance, atol=tolerance)


def test_its_input_is_left_alone() -> None:
    states = torch.ones(2, 8)
    RmsNorm(torch.ones(8), EPSILON)(states)
    assert bool((states == 1).all())
