"""Products of bytes with the kernels of other CPUs, as a specification: oneDNN can be told to use those."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch

from tests.live.stack import ROOT

PROGRAM = """
import torch
from inference.engine.int8 import Int8Product, fastest_states
torch.manual_seed(1)
weight, states = torch.randn(512, 512), torch.randn(8, 512)
weight[0], states[0] = 1.0, 1.0  # the largest sums of bytes
expected = states @ weight.t()
found = Int8Product(weight)(states)
errors = (found - expected).norm(dim=1) / expected.norm(dim=1)
print(fastest_states().largest, errors.max().item())
"""

pytestmark = pytest.mark.skipif(not hasattr(torch.ops.onednn, "qlinear_prepack"), reason="torch has no oneDNN")


@pytest.mark.parametrize("instructions", ["ALL", "AVX512_CORE_VNNI", "AVX512_CORE", "AVX2_VNNI", "AVX2"])
def test_products_of_bytes_are_right(instructions: str) -> None:
    env = os.environ | {"ONEDNN_MAX_CPU_ISA": instructions}
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    largest, error = done.stdout.split()
    # Seven bits of states round twice as coarsely.
    assert float(error) < {"127": 0.015, "63": 0.025}[largest]
    if instructions in ("AVX512_CORE", "AVX2"):
        assert largest == "63"
