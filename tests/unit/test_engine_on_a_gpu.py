from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from inference.engine.loading import load_model
from tests.waiting import wait_for

KINDS = ["text", "image", "video", "both"]


@pytest.fixture(scope="module")
def on_gpu(tiny_model: Path) -> Any:
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU here")
    return load_model(str(tiny_model), dtype="float32", device_map="cuda")


def test_replayed_steps_give_the_answers_of_taken_ones(
    on_gpu: Any, start_engine: Any, make_request: Any, collect: Any
) -> None:
    replaying, taking = start_engine(on_gpu), start_engine(on_gpu, cuda_graphs=False)
    requests = [
        make_request(kind, text="Satu " * n, max_tokens=40 * n, temperature=n % 2, seed=n, ignore_eos=True)
        for n, kind in enumerate(KINDS * 4, 1)
    ]
    expected = [collect(handle).deltas for handle in [taking.submit(request) for request in requests]]
    assert [collect(handle).deltas for handle in [replaying.submit(request) for request in requests]] == expected
    graphs = replaying._batch._runner._graphs
    assert graphs.usable
    assert len(graphs._graphs) > 1


def test_without_a_gpu_there_are_no_graphs_and_memory_goes_back(
    start_engine: Any, make_request: Any, collect: Any
) -> None:
    engine = start_engine(cuda_graphs=True)
    assert collect(engine.submit(make_request())).ids
    assert engine._batch._runner._graphs is None
    wait_for(lambda: engine.stats().cache_bytes == 0)
