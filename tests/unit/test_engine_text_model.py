"""Models that read text only, through the same engine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from inference.engine.errors import InvalidPrompt
from inference.engine.loading import load_model
from inference.engine.prompts import PromptMaker
from inference.tiny_models.text import build_tiny_text_model


@pytest.fixture(scope="module", params=["qwen3", "llama"])
def text_model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("text")
    return load_model(str(build_tiny_text_model(folder / "model", architecture=request.param)), device_map="cpu")


def test_greedy_tokens_are_those_of_transformers(
    text_model: Any, start_engine: Any, make_request: Any, collect: Any
) -> None:
    engine = start_engine(text_model, prefill_chunk_tokens=16)
    requests = [make_request(text="Satu dua tiga " * n, max_tokens=40, ignore_eos=True) for n in (1, 5, 20)]
    handles = [engine.submit(request) for request in requests]
    for request, handle in zip(requests, handles, strict=True):
        ids = PromptMaker(text_model, max_context_tokens=2000).make(request).ids[None]
        expected = text_model.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            do_sample=False,
            max_new_tokens=40,
            min_new_tokens=40,
        )[0, ids.shape[1] :].tolist()
        assert collect(handle).ids == expected


def test_a_resumed_answer_goes_on_and_a_known_prompt_is_not_read_again(
    text_model: Any, start_engine: Any, make_request: Any, collect: Any
) -> None:
    engine = start_engine(text_model)
    sampling = {"text": "Satu dua tiga " * 20, "temperature": 1.0, "seed": 3}
    whole = collect(engine.submit(make_request(**sampling)))
    for cut in (0, 1, 17, 39):
        resumed = collect(engine.submit(make_request(resume_ids=whole.ids[:cut], **sampling)))
        assert resumed.deltas == whole.deltas[cut:]
    assert engine.stats().reused_tokens > 4 * 64


@pytest.mark.parametrize("kind", ["image", "video"])
def test_what_it_cannot_see_is_refused(
    text_model: Any, start_engine: Any, make_request: Any, collect: Any, kind: str
) -> None:
    engine = start_engine(text_model)
    with pytest.raises(InvalidPrompt, match="text only"):
        collect(engine.submit(make_request(kind)))
    assert collect(engine.submit(make_request())).ids
