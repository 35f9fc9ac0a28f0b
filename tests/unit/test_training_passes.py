"""The quick forward passes of training give what the served model gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ocr.reading import prompt
from ocr.specimens import make_specimen
from training.answers import answer_text


@pytest.fixture(scope="module")
def reader() -> tuple[Any, Any]:
    from training.reader_model import SIZES, make_model, make_processor

    processor = make_processor(SIZES["tiny"])
    return make_model(processor.tokenizer, SIZES["tiny"], seed=3).eval(), processor


def _inputs(processor: Any, image: Image.Image) -> dict[str, torch.Tensor]:
    content = [
        {**part, "image": image} if part["type"] == "image" else part for part in prompt.messages()[0]["content"]
    ]
    return dict(
        processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
    )


def test_pixels_become_the_processors_patches(reader: tuple[Any, Any]) -> None:
    from training.passes import patches_of

    image = make_specimen(1, 1, "flat", width=512, height=320).image
    theirs = _inputs(reader[1], image)["pixel_values"]
    ours = patches_of(torch.from_numpy(np.asarray(image)[None].copy()))
    # A still is two equal frames to the processor.
    frames = theirs.view(len(theirs), 3, 2, 16 * 16)
    assert torch.allclose(frames[:, :, 0].flatten(1), ours, atol=1e-4)
    assert torch.equal(frames[:, :, 0], frames[:, :, 1])


def test_a_batch_is_read_as_transformers_reads_each_alone(reader: tuple[Any, Any]) -> None:
    from training.guidance import Guide
    from training.passes import Passes
    from training.reader_model import SIZES, make_model

    model, processor = reader
    specimens = [make_specimen(1, index, "flat", width=512, height=320) for index in (1, 2)]
    answers = [processor.tokenizer.encode(answer_text(specimen.values))[:60] for specimen in specimens]
    pixels = torch.from_numpy(np.stack([np.asarray(specimen.image) for specimen in specimens]))

    twin = make_model(processor.tokenizer, SIZES["tiny"], seed=3).eval()
    Guide(twin, (0, 1))
    passes = Passes(twin, processor)
    with torch.no_grad():
        ours, first = passes.read(passes.see(pixels), torch.tensor(answers), (512, 320))
        for row, specimen in enumerate(specimens):
            inputs = _inputs(processor, specimen.image)
            said = torch.tensor([answers[row]])
            assert inputs["input_ids"].shape[1] == first + 1 == passes.prompt_length((512, 320))
            for name, more in (
                ("input_ids", said),
                ("attention_mask", torch.ones_like(said)),
                ("mm_token_type_ids", torch.zeros_like(said)),
            ):
                inputs[name] = torch.cat([inputs[name], more], dim=1)
            theirs = model(**inputs).logits[0, first : first + 60]
            assert torch.allclose(ours[row], theirs, atol=2e-3)


def test_a_scanned_card_comes_out_at_the_size_that_was_trained(reader: tuple[Any, Any]) -> None:
    for width in (400, 512, 640, 1024, 2048):
        grid = _inputs(reader[1], make_specimen(1, 1, "photocopy", width=width).image)["image_grid_thw"]
        assert grid.tolist() == [[1, 20, 32]]


def test_guided_attention_is_pulled_to_the_named_position(reader: tuple[Any, Any]) -> None:
    from training.guidance import Guide
    from training.passes import Passes
    from training.reader_model import SIZES, make_model

    model = make_model(reader[1].tokenizer, SIZES["tiny"], seed=3)
    guide, passes = Guide(model, (0, 1)), Passes(model, reader[1])
    pixels = torch.from_numpy(np.asarray(make_specimen(1, 1, "flat", width=512, height=320).image)[None].copy())
    answers = torch.tensor([reader[1].tokenizer.encode(answer_text(make_specimen(1, 1, "flat").values))[:20]])
    wanted = torch.full((1, 20), -1)
    wanted[0, 5] = passes.picture_starts((512, 320)) + 17
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        guide.expect(passes.prompt_length((512, 320)) - 1, wanted)
        passes.read(passes.see(pixels), answers, (512, 320))
        loss = guide.loss()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3
