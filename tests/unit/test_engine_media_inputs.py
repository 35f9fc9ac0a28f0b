from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from inference.engine.media_inputs import MediaReader
from inference.engine.types import Video

NOISE = np.random.default_rng(5).integers(0, 256, (8, 96, 128, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def reader(own_layers: Any) -> MediaReader:
    return MediaReader(own_layers)


def video(frames: np.ndarray) -> Video:
    return Video(frames, [0.5 * number for number in range(len(frames))])


@pytest.mark.parametrize("size", [(128, 96), (40, 90), (700, 333)])
def test_an_image_has_the_patches_that_the_whole_processor_gives(
    reader: MediaReader, own_layers: Any, size: tuple[int, int]
) -> None:
    image = Image.fromarray(NOISE[0]).resize(size)
    read = reader.read(image)
    expected = own_layers.processor(images=[image], return_tensors="pt")
    assert torch.equal(read.grid, expected["image_grid_thw"])
    assert torch.equal(torch.cat(read.patches), expected["pixel_values"])


def test_equal_images_have_one_digest_whatever_their_mode(reader: MediaReader) -> None:
    image = Image.fromarray(NOISE[0])
    [plain] = reader.read(image).digests
    assert reader.read(image.copy()).digests == reader.read(image.convert("RGBA")).digests == (plain,)


def test_different_images_have_different_digests(reader: MediaReader) -> None:
    one_pixel = NOISE[0].copy()
    one_pixel[50, 60, 2] ^= 1
    # The same bytes in another shape, and a size that the model sees as the same.
    shapes = [NOISE[0], one_pixel, NOISE[0].reshape(128, 96, 3), NOISE[0][:95], NOISE[1]]
    digests = [reader.read(Image.fromarray(pixels)).digests for pixels in shapes]
    assert len(set(digests)) == len(shapes)


def test_frames_of_a_video_have_their_digests_in_every_video_of_that_size(reader: MediaReader) -> None:
    long, short = reader.read(video(NOISE[:6])), reader.read(video(NOISE[2:6]))
    assert len(long.digests) == len(long.patches) == 3
    assert long.digests[1:] == short.digests
    assert all(torch.equal(a, b) for a, b in zip(long.patches[1:], short.patches, strict=True))


@pytest.mark.parametrize("frames", [1, 3, 5])
def test_an_odd_number_of_frames_has_a_digest_for_each_pair(reader: MediaReader, frames: int) -> None:
    read = reader.read(video(NOISE[:frames]))
    assert len(read.digests) == len(read.patches) == (frames + 1) // 2
    assert len(set(read.digests)) == len(read.digests)


def test_a_frame_and_an_image_of_the_same_pixels_are_not_confused(reader: MediaReader) -> None:
    assert reader.read(video(NOISE[:1])).digests != reader.read(Image.fromarray(NOISE[0])).digests
