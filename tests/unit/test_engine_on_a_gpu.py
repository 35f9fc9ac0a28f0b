"""What only a GPU can show. Without one all but the last of these tests are skipped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from inference.engine import agreement
from inference.engine.cuda_graphs import SPAN_BUCKET
from inference.engine.fused_layers import FusedLayers
from inference.engine.fused_prefill import FusedPrefill
from inference.engine.layers_prefill import LayersPrefill
from inference.engine.loading import load_model
from inference.engine.prefill_unit import Prefill, PrefillUnit
from inference.engine.prompts import Prompt
from tests.waiting import wait_for

KINDS = ["text", "image", "video", "both"]


@pytest.fixture(scope="module")
def on_gpu(tiny_model: Path) -> Iterator[Any]:
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU here")
    # Otherwise cuDNN rounds single precision in convolutions.
    with torch.backends.cudnn.flags(allow_tf32=False):
        yield load_model(str(tiny_model), dtype="float32", device_map="cuda")


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
    assert any(span > SPAN_BUCKET for _, span in graphs._graphs)


def test_steps_are_still_replayed_after_the_cache_has_moved(
    on_gpu: Any, start_engine: Any, make_request: Any, collect: Any
) -> None:
    engine = start_engine(on_gpu)
    runner = engine._batch._runner
    before = runner.cache.layout
    answer = collect(engine.submit(make_request("image", max_tokens=2500, ignore_eos=True)))
    assert len(answer.ids) == 2500
    assert runner.cache.layout > before
    assert runner._graphs.usable
    assert runner._graphs._graphs


@torch.inference_mode()
@pytest.mark.parametrize("lengths", [(40,), (5, 19, 2, 11), (7, 7)])
def test_prompts_are_prefilled_as_through_the_models_own_layers(on_gpu: Any, lengths: tuple[int, ...]) -> None:
    embed = on_gpu.model.get_input_embeddings()
    logits = []
    for way in (FusedPrefill(FusedLayers(on_gpu.model), pads=True), LayersPrefill(on_gpu.model)):
        queue = [Prefill(Prompt.of_tokens(torch.arange(3, 3 + length), axes=3), []) for length in lengths]
        found = way.run(PrefillUnit.of(way.choose(queue, 1000), embed))
        assert len(found) == len(lengths)
        logits.append(torch.cat([one.logits for one in found]))
    assert agreement.difference(*logits) < agreement.TOLERANCE[torch.float32]


def test_without_a_gpu_there_are_no_graphs_and_memory_goes_back(
    start_engine: Any, make_request: Any, collect: Any
) -> None:
    engine = start_engine(cuda_graphs=True)
    assert collect(engine.submit(make_request())).ids
    assert engine._batch._runner._graphs is None
    wait_for(lambda: engine.stats().cache_bytes == 0)
