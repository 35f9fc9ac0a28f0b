from __future__ import annotations

import itertools
import queue
import random
import threading
from typing import Any

import numpy as np
import pytest
from PIL import Image

from inference.engine.engine import Engine
from inference.engine.errors import EngineError, EngineStopped, InvalidPrompt, InvalidSampling, PromptTooLong
from inference.engine.sampling import Sampler
from inference.engine.types import Delta, Finish, GenerationRequest, Sampling, Video
from tests.waiting import wait_for

LONG: dict[str, Any] = {"max_tokens": 3000, "ignore_eos": True}


def test_cancelling_a_running_request_ends_it_and_frees_its_row(
    start_engine: Any, make_request: Any, collect: Any
) -> None:
    engine = start_engine()
    other = engine.submit(make_request(max_tokens=30))
    handle = engine.submit(make_request("image", **LONG))
    begun = [next(handle) for _ in range(3)]
    handle.cancel()
    handle.cancel()
    rest = collect(handle)
    assert rest.finish.reason == "cancelled"
    assert rest.finish.completion_tokens == len(begun) + len(rest.deltas)
    assert list(handle) == []
    assert collect(other).finish.completion_tokens == 30
    wait_for(lambda: engine.stats().running == 0 and engine.stats().cache_bytes == 0)


def test_cancelling_counts_the_tokens_of_the_earlier_attempt(
    start_engine: Any, make_request: Any, collect: Any
) -> None:
    engine = start_engine(max_batch_size=1)
    blocking = engine.submit(make_request(**LONG))
    next(blocking)
    handle = engine.submit(make_request(resume_ids=[65, 66, 67]))
    handle.cancel()
    assert collect(handle).finish.completion_tokens == 3
    blocking.cancel()


def test_cancelling_a_waiting_request_ends_it_while_the_others_run(
    start_engine: Any, make_request: Any, collect: Any
) -> None:
    engine = start_engine(max_batch_size=1)
    running = engine.submit(make_request(**LONG))
    next(running)
    waiting = engine.submit(make_request("video"))
    wait_for(lambda: not engine._in_preparation)
    assert engine.stats().waiting == 1
    waiting.cancel()
    assert engine.stats().waiting == 0
    result = collect(waiting)
    assert (result.deltas, result.finish.reason) == ([], "cancelled")
    assert result.finish.prompt_tokens > 0
    assert isinstance(next(running), Delta)
    running.cancel()


def test_cancelling_at_once_ends_a_request_that_is_not_prepared_yet(
    start_engine: Any, make_request: Any, collect: Any
) -> None:
    engine = start_engine()
    handles = [engine.submit(make_request("video")) for _ in range(10)]
    for handle in handles:
        handle.cancel()
    assert {collect(handle).finish.reason for handle in handles} == {"cancelled"}
    wait_for(lambda: engine.stats().waiting == 0)
    assert not engine._open


def test_cancelling_after_the_end_changes_nothing(start_engine: Any, make_request: Any, collect: Any) -> None:
    handle = start_engine().submit(make_request(max_tokens=2))
    assert collect(handle).finish.reason == "length"
    handle.cancel()
    assert list(handle) == []


def test_a_prompt_longer_than_the_context_is_refused(start_engine: Any, make_request: Any) -> None:
    engine = start_engine(max_context_tokens=50)
    with pytest.raises(PromptTooLong) as refusal:
        list(engine.submit(make_request(text="satu " * 100)))
    assert refusal.value.limit == 50
    assert refusal.value.prompt_tokens > 50


@pytest.mark.parametrize("room", [0, 1])
def test_a_prompt_needs_room_for_one_token(start_engine: Any, make_request: Any, collect: Any, room: int) -> None:
    prompt_tokens = collect(start_engine().submit(make_request())).finish.prompt_tokens
    handle = start_engine(max_context_tokens=prompt_tokens + room).submit(make_request())
    if room:
        assert collect(handle).finish.completion_tokens == 1
    else:
        with pytest.raises(PromptTooLong):
            list(handle)


def user(*parts: dict[str, str]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": list(parts)}]


@pytest.mark.parametrize(
    "request_",
    [
        GenerationRequest(user({"type": "image"}), Sampling(max_tokens=2)),
        GenerationRequest(
            user({"type": "text", "text": "a"}), Sampling(max_tokens=2), images=[Image.new("RGB", (9, 9))]
        ),
        GenerationRequest(user({"type": "sound"}), Sampling(max_tokens=2)),
        GenerationRequest(user({"type": "image"}), Sampling(max_tokens=2), images=[Image.new("RGB", (2000, 2))]),
        GenerationRequest(
            user({"type": "video"}),
            Sampling(max_tokens=2),
            videos=[Video(np.zeros((1, 900, 2, 3), np.uint8), [0.0])],
        ),
    ],
    ids=["image missing", "image too many", "unknown part", "image too narrow", "video too narrow"],
)
def test_a_conversation_that_makes_no_prompt_fails_alone(
    start_engine: Any, make_request: Any, collect: Any, request_: GenerationRequest
) -> None:
    engine = start_engine()
    good = engine.submit(make_request())
    with pytest.raises(InvalidPrompt):
        list(engine.submit(request_))
    assert collect(good).finish.completion_tokens == 40


def test_a_video_of_one_frame_is_read(start_engine: Any, collect: Any) -> None:
    video = Video(np.zeros((1, 64, 64, 3), np.uint8), [0.0])
    request = GenerationRequest(user({"type": "video"}), Sampling(max_tokens=2), videos=[video])
    assert collect(start_engine().submit(request)).finish.completion_tokens == 2


def test_a_part_with_a_path_opens_no_file(start_engine: Any, collect: Any, tmp_path: Any) -> None:
    picture = tmp_path / "picture.png"
    Image.new("RGB", (64, 64)).save(picture)
    request = GenerationRequest(user({"type": "image", "path": str(picture)}), Sampling(max_tokens=2))
    with pytest.raises(InvalidPrompt):
        list(start_engine().submit(request))


def test_a_failed_prefill_fails_its_request_only(
    loaded: Any, start_engine: Any, make_request: Any, collect: Any
) -> None:
    engine = start_engine()
    running = engine.submit(make_request(max_tokens=60))
    next(running)

    def fail(*_: Any) -> None:
        raise RuntimeError("the vision tower fell")

    hook = loaded.model.model.visual.register_forward_pre_hook(fail)
    try:
        with pytest.raises(EngineError, match="failed to read the prompt"):
            list(engine.submit(make_request("image")))
    finally:
        hook.remove()
    assert collect(running).finish.completion_tokens == 60
    assert collect(engine.submit(make_request("image"))).deltas


def test_of_prompts_that_are_prefilled_together_only_the_one_that_fails_is_failed(
    loaded: Any, make_request: Any, collect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = [make_request(text="Satu " * number, seed=number) for number in range(1, 5)]
    engine = Engine(loaded, max_batch_size=8)
    create = Sampler.__init__

    def fail_for_the_second(self: Sampler, rows: Any, **options: Any) -> None:
        if any(row.sampling.seed == 2 for row in rows):
            raise RuntimeError("no room for its bias")
        create(self, rows, **options)

    monkeypatch.setattr(Sampler, "__init__", fail_for_the_second)
    handles = [engine.submit(request) for request in requests]
    wait_for(lambda: not engine._in_preparation)
    engine.start()
    with pytest.raises(EngineError, match="failed to read the prompt"):
        list(handles[1])
    for number in (0, 2, 3):
        assert collect(handles[number]).finish.completion_tokens == 40
    assert engine.stop()


def test_a_failed_step_fails_the_requests_in_it_and_the_engine_goes_on(
    loaded: Any, start_engine: Any, make_request: Any, collect: Any
) -> None:
    engine = start_engine()
    whole = collect(engine.submit(make_request()))
    handles = [engine.submit(make_request(**LONG)) for _ in range(3)]
    for handle in handles:
        next(handle)

    def fail(*_: Any) -> None:
        hook.remove()
        raise RuntimeError("out of memory")

    hook = loaded.model.lm_head.register_forward_pre_hook(fail)
    for handle in handles:
        with pytest.raises(EngineError, match="failed while it generated"):
            list(handle)
    assert collect(engine.submit(make_request())).ids == whole.ids


def test_a_row_that_finds_no_memory_fails_and_the_engine_goes_on(
    start_engine: Any, make_request: Any, collect: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = start_engine()
    whole = collect(engine.submit(make_request()))
    cache = engine._batch._runner.cache

    def fail(*_: Any) -> None:
        monkeypatch.undo()
        raise RuntimeError("out of memory")

    monkeypatch.setattr(cache.layers[2], "resize", fail)
    with pytest.raises(EngineError, match="failed to read the prompt"):
        list(engine.submit(make_request()))
    monkeypatch.setattr(engine._batch._prefixes, "store", fail)
    assert collect(engine.submit(make_request())).ids == whole.ids
    monkeypatch.setattr(engine._batch._prefixes, "load", fail)
    with pytest.raises(EngineError, match="failed to read the prompt"):
        list(engine.submit(make_request()))
    assert collect(engine.submit(make_request())).ids == whole.ids


def test_stopping_ends_every_handle(start_engine: Any, make_request: Any) -> None:
    engine = start_engine(max_batch_size=2)
    handles = [engine.submit(make_request(kind, **LONG)) for kind in ["text", "image", "video", "text", "video"]]
    next(handles[0])
    outcomes: list[BaseException] = []

    def read(handle: Any) -> None:
        try:
            list(handle)
        except EngineStopped as error:
            outcomes.append(error)

    readers = [threading.Thread(target=read, args=(handle,)) for handle in handles]
    for reader in readers:
        reader.start()
    assert engine.stop(timeout_seconds=30)
    for reader in readers:
        reader.join(30)
        assert not reader.is_alive()
    assert len(outcomes) == 5
    with pytest.raises(EngineStopped):
        engine.submit(make_request())
    assert engine.stop(timeout_seconds=1)
    assert not engine._open
    assert engine.stats().cache_bytes == 0


def test_an_engine_that_never_started_stops_too(loaded: Any, make_request: Any) -> None:
    engine = Engine(loaded, max_batch_size=1)
    handle = engine.submit(make_request())
    assert engine.stop(timeout_seconds=1)
    with pytest.raises(EngineStopped):
        list(handle)


def test_nothing_is_kept_of_requests_that_have_ended(start_engine: Any, make_request: Any) -> None:
    engine = start_engine(max_batch_size=4)
    for handle in [engine.submit(make_request(max_tokens=3)) for _ in range(40)]:
        assert isinstance(list(handle)[-1], Finish)
    wait_for(lambda: engine.stats().running == 0 and engine.stats().cache_bytes == 0)
    assert (engine.stats().waiting, engine.stats().generated_tokens) == (0, 120)
    assert not engine._open and not engine._ready and not engine._batch


def test_many_threads_that_submit_and_cancel_leave_no_handle_hanging(start_engine: Any, make_request: Any) -> None:
    engine = start_engine(max_batch_size=4)
    ended: list[str] = []

    def use(number: int) -> None:
        generator = random.Random(number)
        for _ in range(10):
            kind = generator.choice(["text", "image", "video"])
            handle = engine.submit(
                make_request(kind, max_tokens=generator.randint(1, 40), temperature=1.0, seed=number)
            )
            begun = list(itertools.islice(handle, generator.choice([0, 0, 1, 5, 50])))
            if generator.random() < 0.5:
                handle.cancel()
            finish = [*begun, *handle][-1]
            assert isinstance(finish, Finish)
            ended.append(finish.reason)

    threads = [threading.Thread(target=use, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(ended) == 80
    assert {"cancelled", "length"} <= set(ended)
    wait_for(lambda: engine.stats().running == 0 and engine.stats().cache_bytes == 0)
    assert engine.stats().waiting == 0
    assert not engine._open


def test_a_receiver_gets_what_was_not_read_and_all_that_follows(
    start_engine: Any, make_request: Any, collect: Any
) -> None:
    engine = start_engine()
    request = make_request(max_tokens=60, temperature=1.0, seed=1, ignore_eos=True)
    alone = collect(engine.submit(request))
    handle = engine.submit(request)
    first = next(handle)
    received: queue.SimpleQueue[Any] = queue.SimpleQueue()
    handle.send_to(received)
    items = [first]
    while not isinstance(items[-1], Finish):
        items.append(received.get(timeout=60))
    assert items == [*alone.deltas, alone.finish]


def test_a_receiver_hears_of_a_failure(start_engine: Any, make_request: Any) -> None:
    received: queue.SimpleQueue[Any] = queue.SimpleQueue()
    start_engine().submit(make_request(stop_token_ids=(10**6,))).send_to(received)
    assert isinstance(received.get(timeout=60), InvalidSampling)
