"""What does not fit is refused before it costs anything, and one prompt never holds up another."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from inference.engine.errors import PromptTooLong
from inference.engine.lanes import Lane
from inference.engine.media_inputs import MediaReader
from inference.engine.prompts import Prompt, PromptMaker
from inference.engine.text_encoder import PIECE_CHARACTERS
from inference.engine.types import GenerationRequest, Sampling, Video
from tests.waiting import wait_for


class SlowPicture(Image.Image):
    """Takes its time to be read, until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.going_on = threading.Event()
        self.begun = threading.Event()
        self._mode, self._size = "RGB", (64, 64)

    def convert(self, *_: Any, **__: Any) -> Image.Image:
        self.begun.set()
        assert self.going_on.wait(60)
        return Image.new("RGB", self.size)


def saying(*texts: str) -> GenerationRequest:
    return GenerationRequest([{"role": "user", "content": text} for text in texts], Sampling(max_tokens=2))


@pytest.fixture(scope="module")
def maker(loaded: Any) -> PromptMaker:
    return PromptMaker(loaded, max_context_tokens=4096)


@pytest.mark.parametrize(
    "request_",
    [
        saying("kata " * 200_000),
        saying("<|im_end|>" * 500_000),
        saying("日本語" * 100_000),
        saying(*["a" * 1000] * 1000),
        saying(*[""] * 4096),
    ],
    ids=["words", "control tokens", "not ASCII", "many messages", "empty messages"],
)
def test_a_hopeless_prompt_is_refused_before_it_is_encoded(
    maker: PromptMaker, request_: GenerationRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encode(text: str) -> Any:
        raise AssertionError(f"{len(text)} characters were encoded")

    monkeypatch.setattr(maker._encoder, "pieces", encode)
    with pytest.raises(PromptTooLong, match=r"at least \d+ tokens; the context holds 4096") as refusal:
        next(maker.steps(request_))
    assert refusal.value.prompt_tokens >= refusal.value.limit == 4096


def test_a_prompt_whose_length_leaves_hope_is_encoded_no_further_than_it_fits(maker: PromptMaker) -> None:
    request = saying("zq7" * 8000)
    steps = []
    with pytest.raises(PromptTooLong, match="at least") as refusal:
        for step in maker.steps(request):
            steps.append(step)
    assert len(steps) <= 1
    assert refusal.value.prompt_tokens < 3 * 8000


def test_a_prompt_that_is_a_little_too_long_is_told_its_length(loaded: Any, maker: PromptMaker) -> None:
    request = saying("zq7" * 1500)
    tokens = maker.make(saying("zq7")).prompt_tokens + 3 * 1499
    with pytest.raises(PromptTooLong, match=f"has {tokens} tokens"):
        maker.make(request)
    roomy = PromptMaker(loaded, max_context_tokens=tokens + 1)
    assert roomy.make(request).prompt_tokens == tokens


def test_a_long_prompt_is_made_in_steps_and_is_that_of_the_whole_text(loaded: Any) -> None:
    maker = PromptMaker(loaded, max_context_tokens=10**6)
    text = "Satu dua tiga, empat lima. " * 4000
    *lanes, prompt = maker.steps(saying(text))
    assert isinstance(prompt, Prompt)
    assert set(lanes) == {Lane.TEXT}
    assert len(lanes) >= len(text) // PIECE_CHARACTERS
    ids = loaded.processor.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, tokenize=True
    )
    assert prompt.ids.tolist() == ids[0]


def test_many_messages_of_middling_length_are_made_in_steps_too(loaded: Any) -> None:
    maker = PromptMaker(loaded, max_context_tokens=10**6)
    *lanes, _ = maker.steps(saying(*["Satu dua tiga. " * 100] * 100))
    assert len(lanes) >= 100 * 1500 // (2 * PIECE_CHARACTERS)


def test_pictures_that_cannot_fit_are_refused_before_a_pixel_is_read(loaded: Any) -> None:
    maker = PromptMaker(loaded, max_context_tokens=50)
    picture = SlowPicture()
    picture._size = (3000, 2000)
    request = GenerationRequest([{"role": "user", "content": [{"type": "image"}]}], Sampling(max_tokens=2), [picture])
    with pytest.raises(PromptTooLong, match="at least"):
        maker.make(request)
    assert not picture.begun.is_set()


@settings(max_examples=40, deadline=None)
@given(height=st.integers(20, 400), width=st.integers(20, 400), frames=st.integers(0, 7))
def test_the_tokens_of_media_are_known_by_their_size(loaded: Any, height: int, width: int, frames: int) -> None:
    reader = MediaReader(loaded)
    media: Any = Image.new("RGB", (width, height))
    if frames:
        media = Video(np.zeros((frames, height, width, 3), np.uint8), [float(n) for n in range(frames)])
    read = reader.read(media)
    assert reader.tokens_of(media) == sum(i == reader.placeholders[read.kind] for i in read.ids)


def test_a_slow_picture_holds_up_no_text_and_no_other_picture(
    start_engine: Any, make_request: Any, collect: Any
) -> None:
    engine = start_engine()
    picture = SlowPicture()
    request = GenerationRequest([{"role": "user", "content": [{"type": "image"}]}], Sampling(max_tokens=2), [picture])
    slow = engine.submit(request)
    assert picture.begun.wait(60)
    assert collect(engine.submit(make_request(max_tokens=3))).ids
    assert collect(engine.submit(make_request("image", max_tokens=3))).ids
    assert not slow.closed
    picture.going_on.set()
    assert collect(slow).finish.completion_tokens == 2


def test_a_prompt_that_is_cancelled_is_made_no_further(start_engine: Any, collect: Any) -> None:
    engine = start_engine()
    pictures = [SlowPicture(), SlowPicture()]
    content = [{"type": "image"}, {"type": "image"}]
    handle = engine.submit(GenerationRequest([{"role": "user", "content": content}], Sampling(max_tokens=2), pictures))
    assert pictures[0].begun.wait(60)
    handle.cancel()
    assert collect(handle).finish.reason == "cancelled"
    pictures[0].going_on.set()
    wait_for(lambda: engine.stats().waiting == 0)
    assert not pictures[1].begun.is_set()
