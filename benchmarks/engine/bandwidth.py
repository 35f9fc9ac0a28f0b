"""The bound that memory sets: every weight of the decoder is read once for every token of a single stream."""

from __future__ import annotations

import time
from typing import Any

import torch

COPIED_BYTES = 2**30
COPIES = 20


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second of a copy within the device's memory, read and written counted; the best of several."""
    source = torch.ones(COPIED_BYTES, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(COPIES):
        _wait_for(device)
        started = time.perf_counter()
        target.copy_(source)
        _wait_for(device)
        best = max(best, 2 * COPIED_BYTES / (time.perf_counter() - started))
    return best


def decoder_bytes(model: Any) -> int:
    """Bytes of the weights that a decode step reads: the layers and the output, but of the embedding only one row."""
    embedding = model.get_input_embeddings().weight
    decoder = {p.data_ptr(): p.nbytes for p in model.model.language_model.parameters() if p is not embedding}
    output = model.get_output_embeddings().weight
    return sum((decoder | {output.data_ptr(): output.nbytes}).values())


def _wait_for(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
