"""Who is read when, what is reused, and what the memory allows: none of it changes an answer."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inference.engine.engine import Engine
from inference.engine.errors import LoadError, PromptTooLong
from inference.engine.fused_prefill import FusedPrefill
from inference.engine.layers_prefill import LayersPrefill
from inference.engine.prefill_unit import Prefilled, PrefillUnit
from inference.engine.types import Delta, Finish, GenerationRequest, Sampling
from tests.waiting import wait_for

KINDS = ["text", "image", "video", "both"]
LONG: dict[str, Any] = {"max_tokens": 3000, "ignore_eos": True}
LONG_TEXT = "Satu dua tiga empat lima enam tujuh. " * 40
#: of the small model: 2 x 4 layers x 2 key heads x 32 x 4 bytes
TOKEN_BYTES = 2048


@contextlib.contextmanager
def counted(module: Any) -> Iterator[list[int]]:
    """Notes the number of rows of every call."""
    calls: list[int] = []

    def note(_: Any, arguments: Any) -> None:
        calls.append(len(arguments[0]))

    hook = module.register_forward_pre_hook(note)
    try:
        yield calls
    finally:
        hook.remove()


def picture(seed: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (96, 128, 3), dtype=np.uint8))


def about(image: Image.Image, *turns: str, max_tokens: int = 30) -> GenerationRequest:
    """A conversation about an image; every second turn is the assistant's."""
    first, *others = turns
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": first}]},
        *({"role": ("assistant", "user")[n % 2], "content": text} for n, text in enumerate(others)),
    ]
    return GenerationRequest(messages, Sampling(max_tokens=max_tokens), images=[image])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("chunk_tokens", [7, 64])
def test_a_prompt_read_in_chunks_gives_the_same_answer(
    start_engine: Any, make_request: Any, collect: Any, kind: str, chunk_tokens: int
) -> None:
    request = make_request(kind, text=LONG_TEXT)
    whole = collect(start_engine(prefill_chunk_tokens=4096).submit(request))
    chunked = collect(start_engine(prefill_chunk_tokens=chunk_tokens).submit(request))
    assert chunked.deltas == whole.deltas


def test_rows_go_on_between_the_chunks_of_a_long_prompt(start_engine: Any, make_request: Any, collect: Any) -> None:
    engine = start_engine(prefill_chunk_tokens=32)
    running = engine.submit(make_request(max_tokens=3000, ignore_eos=True))
    next(running)
    before = engine.stats().decode_steps
    reading = engine.submit(make_request(text=LONG_TEXT, max_tokens=1))
    prompt_tokens = collect(reading).finish.prompt_tokens
    assert engine.stats().decode_steps - before >= prompt_tokens // 32
    running.cancel()


def test_prompts_that_come_together_are_read_together(
    loaded: Any, start_engine: Any, make_request: Any, collect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [make_request(kind, text="Satu " * n, max_tokens=12) for n, kind in enumerate([*KINDS, "text"] * 2, 1)]
    alone = start_engine(max_batch_size=1, reuse_prefixes=False)
    expected = [collect(alone.submit(request)) for request in requests]
    engine = Engine(loaded, max_batch_size=16)
    handles = [engine.submit(request) for request in requests]
    wait_for(lambda: not engine._in_preparation)
    prompts: list[int] = []
    run = FusedPrefill.run

    def note(self: FusedPrefill, unit: PrefillUnit) -> list[Prefilled]:
        prompts.append(len(unit.parts))
        return run(self, unit)

    monkeypatch.setattr(FusedPrefill, "run", note)
    engine.start()
    for handle, before in zip(handles, expected, strict=True):
        assert collect(handle).deltas == before.deltas
    engine.stop()
    assert max(prompts) > 1
    assert len(prompts) < len(requests)


def test_requests_that_do_not_fit_into_the_memory_wait_in_order(
    start_engine: Any, make_request: Any, collect: Any
) -> None:
    requests = [make_request(text="Satu " * n, max_tokens=30, seed=n, temperature=1.0) for n in range(12)]
    roomy, tight = start_engine(), start_engine(kv_cache_bytes=300 * TOKEN_BYTES, reuse_prefixes=False)
    assert tight.stats().max_running_tokens == 300
    expected = [collect(handle) for handle in [roomy.submit(request) for request in requests]]
    handles = [tight.submit(request) for request in requests]
    for handle, before in zip(handles, expected, strict=True):
        assert collect(handle).deltas == before.deltas
        assert tight.stats().cache_bytes <= 300 * TOKEN_BYTES
    # More than one at a time, and never the eight that a batch may have. The rows of a moment, looked at from here,
    # would depend on who runs when.
    stats = tight.stats()
    assert 1.5 < stats.generated_tokens / stats.decode_steps < 8


def test_a_row_put_out_for_want_of_memory_goes_on_where_it_was(
    start_engine: Any, make_request: Any, collect: Any
) -> None:
    sampling = {"max_tokens": 700, "ignore_eos": True, "temperature": 1.0}
    requests = [make_request(kind, seed=n, **sampling) for n, kind in enumerate(["text", "image", "text", "video"])]
    roomy, tight = start_engine(), start_engine(kv_cache_bytes=2000 * TOKEN_BYTES)
    expected = [collect(handle) for handle in [roomy.submit(request) for request in requests]]
    handles = [tight.submit(request) for request in requests]
    for handle, before in zip(handles, expected, strict=True):
        result = collect(handle)
        assert result.deltas == before.deltas
        assert result.finish == before.finish
    assert tight.stats().evictions > 0
    assert roomy.stats().evictions == 0


def test_a_request_that_can_never_fit_is_refused_with_the_length_that_can(
    start_engine: Any, make_request: Any, collect: Any
) -> None:
    engine = start_engine(kv_cache_bytes=300 * TOKEN_BYTES, reuse_prefixes=False)
    with pytest.raises(PromptTooLong) as refusal:
        list(engine.submit(make_request(text="Satu " * 400)))
    assert refusal.value.limit == 300
    answer = collect(engine.submit(make_request(text="Satu", max_tokens=2000, ignore_eos=True)))
    assert answer.finish.reason == "length"
    assert answer.finish.prompt_tokens + answer.finish.completion_tokens == 300


def test_an_engine_without_memory_says_so(loaded: Any) -> None:
    with pytest.raises(LoadError, match="too little memory"):
        Engine(loaded, max_batch_size=4, kv_cache_bytes=10 * TOKEN_BYTES)


def test_a_follow_up_reads_only_what_is_new(start_engine: Any, collect: Any) -> None:
    engine, forgetful = start_engine(), start_engine(reuse_prefixes=False)
    image, question = picture(1), "Apa yang terlihat di gambar ini? " * 10
    first = collect(engine.submit(about(image, question)))
    follow_up = about(image, question, first.text, "Dan warnanya?")
    answer = collect(engine.submit(follow_up))
    assert answer.deltas == collect(forgetful.submit(follow_up)).deltas
    assert engine.stats().reused_tokens >= first.finish.prompt_tokens // 32 * 32
    assert (first.finish.cached_tokens, answer.finish.cached_tokens) == (0, engine.stats().reused_tokens)
    assert forgetful.stats().reused_tokens == 0


def test_what_was_generated_is_known_as_well(start_engine: Any, make_request: Any, collect: Any) -> None:
    engine = start_engine()
    first = collect(engine.submit(make_request(max_tokens=200, ignore_eos=True)))
    again = collect(engine.submit(make_request(max_tokens=210, ignore_eos=True, resume_ids=first.ids)))
    assert len(again.ids) == 10
    assert engine.stats().reused_tokens > first.finish.prompt_tokens + 100
    # Of the prompt; what was generated is none of it.
    assert again.finish.cached_tokens == again.finish.prompt_tokens


def test_two_images_are_never_taken_for_each_other(start_engine: Any, collect: Any) -> None:
    engine, forgetful = start_engine(), start_engine(reuse_prefixes=False, media_cache_bytes=0)
    requests = [about(picture(seed), "Apa ini? " * 20) for seed in (1, 2, 1, 2)]
    answers = [collect(engine.submit(request)).deltas for request in requests]
    assert answers == [collect(forgetful.submit(request)).deltas for request in requests]
    assert answers[0] != answers[1]
    assert forgetful.stats().media_hits == 0


def test_an_image_that_comes_again_in_another_place_is_not_looked_at_again(
    loaded: Any, start_engine: Any, collect: Any
) -> None:
    engine = start_engine()
    image = picture(3)
    collect(engine.submit(about(image, "Apa ini?")))
    message = [{"type": "text", "text": "Lihat:"}, {"type": "image"}, {"type": "text", "text": "Apa itu?"}]
    other = GenerationRequest([{"role": "user", "content": message}], Sampling(max_tokens=20), images=[image])
    with counted(loaded.model.model.visual) as calls:
        answer = collect(engine.submit(other))
    assert calls == []
    assert engine.stats().media_hits == 1
    assert answer.deltas == collect(start_engine().submit(other)).deltas


def test_what_is_kept_does_not_grow_with_the_requests_served(start_engine: Any, collect: Any) -> None:
    one_image = 12 * 128 * 4 * 4
    engine = start_engine(kv_cache_bytes=2000 * TOKEN_BYTES, media_cache_bytes=3 * one_image)
    kept = []
    for seed in range(30):
        collect(engine.submit(about(picture(seed), f"Gambar {seed} " * 10, max_tokens=3)))
        kept.append(engine.stats().kept_bytes)
    assert max(kept) <= 500 * TOKEN_BYTES + 3 * one_image
    assert max(kept[:15]) == max(kept[15:])


def takes_the_layers(engine: Any) -> bool:
    """Whether prompts and steps go through the model's own layers, not the fused ones."""
    runner, prefill = engine._batch._runner, engine._batch._prefiller._pass
    steps = getattr(runner._step, "__func__", None) is type(runner)._step_through_layers
    assert isinstance(prefill, LayersPrefill) == steps
    return steps


def test_the_models_own_layers_give_the_same_answers(
    own_layers: Any, loaded: Any, start_engine: Any, make_request: Any, collect: Any
) -> None:
    class Plain(type(loaded.model)):  # type: ignore[misc]
        """A model whose projections look as if they were quantized."""

        quantization_method = "none"

    plain = Plain(loaded.model.config).to(loaded.model.dtype).eval()
    plain.load_state_dict(own_layers.model.state_dict())
    fused, through_layers = start_engine(), start_engine(dataclasses.replace(loaded, model=plain))
    # Bound methods of two runners always differ: what they are bound from is compared.
    assert not takes_the_layers(fused)
    assert takes_the_layers(through_layers)
    for kind in KINDS:
        request = make_request(kind, max_tokens=60)
        assert collect(fused.submit(request)).deltas == collect(through_layers.submit(request)).deltas


# --- Further answers to one question ---


def further_of(request: GenerationRequest) -> GenerationRequest:
    return dataclasses.replace(request, is_further=True)


def test_a_further_answer_waits_until_every_first_one_has_a_row(start_engine: Any, make_request: Any) -> None:
    engine = start_engine(max_batch_size=3, reserved_rows=1)
    first = [engine.submit(make_request(**LONG)) for _ in range(2)]
    wait_for(lambda: engine.stats().running == 2)
    further = engine.submit(further_of(make_request(**LONG)))
    wait_for(lambda: len(engine._ready_further) == 1)
    # The third row is free, and reserved.
    newcomer = engine.submit(make_request(max_tokens=3))
    assert isinstance(list(newcomer)[-1], Finish)
    assert len(engine._ready_further) == 1
    first[0].cancel()
    assert isinstance(next(further), Delta)
    for handle in (first[1], further):
        handle.cancel()


def test_a_further_answer_that_is_cancelled_while_it_waits_is_forgotten(start_engine: Any, make_request: Any) -> None:
    engine = start_engine(max_batch_size=1)
    running = engine.submit(make_request(**LONG))
    next(running)
    further = engine.submit(further_of(make_request(**LONG)))
    wait_for(lambda: engine._ready_further)
    further.cancel()
    assert not engine._ready_further
    running.cancel()


def test_further_answers_alone_have_all_rows_but_the_reserved_ones(start_engine: Any, make_request: Any) -> None:
    engine = start_engine(max_batch_size=3, reserved_rows=1)
    handles = [engine.submit(further_of(make_request(**LONG))) for _ in range(4)]
    wait_for(lambda: engine.stats().running == 2 and engine.stats().waiting == 2)
    for handle in handles:
        handle.cancel()
