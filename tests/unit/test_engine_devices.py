"""The devices of a model, as operators see them."""

from __future__ import annotations

import torch

from inference.engine.devices import Devices


def test_a_model_on_the_cpu_uses_no_memory_of_a_gpu() -> None:
    devices = Devices(torch.nn.Linear(1, 1))
    assert (devices.name, devices.bytes_used(), devices.total_bytes) == ("cpu", 0, 0)
