"""Sampling videos: which frames, at which times, within which limits."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from django.test import override_settings
from PIL import Image

from inference.engine.types import Video
from inference.engine.vision import VisionSizes
from inference.errors import InvalidMedia
from inference.media.film import video_content_type
from inference.media.limits import media_limits
from inference.media.videos import check_video, sample_video
from tests.media_samples import (
    claiming_samples,
    cover_bytes,
    image_bytes,
    numbers_of,
    shorter_by_edit_list,
    sound_bytes,
    turned_video_bytes,
    video_bytes,
    with_empty_last_sample,
)

PART = "messages[0].content[0]"


def sample(data: bytes, *, max_frames: int = 16) -> Video:
    limits = dataclasses.replace(media_limits(), video_frames=max_frames)
    return sample_video(data, limits, PART)


def refusal(data: bytes) -> str:
    with pytest.raises(InvalidMedia) as caught:
        sample(data)
    assert caught.value.param == PART
    return caught.value.message


@pytest.mark.parametrize(
    ("made", "content_type"),
    [
        ({}, "video/mp4"),
        ({"container": "mov"}, "video/quicktime"),
        ({"container": "webm", "codec": "libvpx-vp9"}, "video/webm"),
        ({"container": "matroska"}, "video/x-matroska"),
        ({"container": "avi", "codec": "mpeg4", "options": {"bf": "2"}}, "video/x-msvideo"),
        ({"container": "avi"}, "video/x-msvideo"),
        ({"container": "avi", "codec": "mjpeg", "pixel_format": "yuvj420p"}, "video/x-msvideo"),
        ({"container": "mpegts"}, "video/mp2t"),
        ({"container": "gif", "codec": "gif", "pixel_format": "rgb8"}, "image/gif"),
        ({"options": {"g": "5", "bf": "2"}}, "video/mp4"),
        ({"options": {"g": "6", "bf": "2", "x264-params": "open-gop=1"}}, "video/mp4"),
        ({"container_options": {"movflags": "frag_keyframe+empty_moov"}, "options": {"g": "5"}}, "video/mp4"),
    ],
)
def test_two_seconds_give_the_first_the_last_and_even_steps_between(made: dict[str, Any], content_type: str) -> None:
    data = video_bytes(frames=20, rate=10, **made)
    video = sample(data)
    assert video.frames.shape == (4, 48, 64, 3)
    assert video.frames.dtype == np.uint8
    assert numbers_of(video.frames) == [0, 6, 13, 19]
    assert video.timestamps_seconds == [0.0, 0.6, 1.3, 1.9]
    assert video_content_type(data, param=PART) == content_type


def test_mpeg_programs_are_read_too() -> None:
    video = sample(video_bytes(container="mpeg", codec="mpeg2video", rate=25))
    assert numbers_of(video.frames) == [0, 6, 13, 19]
    assert video.timestamps_seconds == [0.0, 0.24, 0.52, 0.76]


def test_longer_videos_give_two_frames_a_second_up_to_the_limit() -> None:
    data = video_bytes(frames=30, rate=5)
    assert sample(data).frames.shape[0] == 12
    assert numbers_of(sample(data, max_frames=3).frames) == [0, 14, 29]
    assert numbers_of(sample(data, max_frames=2).frames) == [0, 29]
    assert numbers_of(sample(data, max_frames=1).frames) == [0, 0]


def test_a_video_of_few_frames_gives_them_all() -> None:
    assert numbers_of(sample(video_bytes(frames=2)).frames) == [0, 1]
    assert numbers_of(sample(video_bytes(frames=3)).frames) == [0, 1, 2]


def test_the_only_frame_is_given_twice_because_the_model_takes_pairs() -> None:
    video = sample(video_bytes(frames=1))
    assert numbers_of(video.frames) == [0, 0]
    assert video.timestamps_seconds == [0.0, 0.0]


def test_an_uneven_frame_rate_is_sampled_by_time_and_keeps_the_real_times() -> None:
    data = video_bytes(frames=7, stamps=[0, 100, 200, 300, 400, 2000, 3000])
    video = sample(data, max_frames=4)
    assert numbers_of(video.frames) == [0, 4, 5, 6]
    assert video.timestamps_seconds == pytest.approx([0.0, 0.4, 2.0, 3.0], abs=0.001)


def test_frames_are_picked_alike_whether_or_not_key_frames_let_the_decoder_skip() -> None:
    whole = sample(video_bytes(frames=31, options={"g": "100"}), max_frames=5)
    parts = sample(video_bytes(frames=31, options={"g": "3"}), max_frames=5)
    assert numbers_of(whole.frames) == numbers_of(parts.frames)
    assert whole.timestamps_seconds == parts.timestamps_seconds


def test_the_same_bytes_give_the_same_frames() -> None:
    data = video_bytes(frames=25, options={"g": "7", "bf": "2"})
    first, second = (sample(data, max_frames=8) for _ in range(2))
    assert np.array_equal(first.frames, second.frames)
    assert first.timestamps_seconds == second.timestamps_seconds


def test_a_video_filmed_upright_is_turned() -> None:
    frames = sample(turned_video_bytes(), max_frames=4).frames
    assert frames.shape == (4, 64, 48, 3)
    assert frames[:, :30].mean() < 5
    assert frames[:, -30:].mean() > 250


def test_large_frames_are_reduced_to_the_pixels_allowed_together() -> None:
    with override_settings(MAX_VIDEO_PIXELS=4 * 32 * 24):
        video = sample(video_bytes(), max_frames=4)
    assert video.frames.shape == (4, 24, 32, 3)
    assert numbers_of(video.frames) == [0, 6, 13, 19]


@pytest.mark.parametrize(
    "made",
    [
        {},
        {"container": "webm", "codec": "libvpx-vp9"},
        {"container": "matroska"},
        {"container": "avi", "codec": "mpeg4"},
        {"container": "gif", "codec": "gif", "pixel_format": "rgb8"},
        {"container_options": {"movflags": "faststart"}},
    ],
)
def test_a_video_cut_off_anywhere_is_refused(made: dict[str, Any]) -> None:
    data = video_bytes(**made)
    for part in (0.1, 0.5, 0.8, 0.95):
        refusal(data[: int(len(data) * part)])


def test_damaged_frames_are_refused() -> None:
    data = bytearray(video_bytes(container="mov", codec="mjpeg", pixel_format="yuvj420p"))
    start = data.index(b"mdat") + 8
    data[start : start + 400] = bytes(400)
    assert "damaged" in refusal(bytes(data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"<html></html>",
        image_bytes(),
        # What would make FFmpeg open other files and addresses, if it were allowed to guess.
        b"#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:0\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/hostname\n",
    ],
)
def test_what_is_no_video_is_refused(data: bytes) -> None:
    assert "video" in refusal(data)


def test_sound_alone_is_refused() -> None:
    assert "no video, only sound" in refusal(sound_bytes())


def test_a_container_without_frames_is_refused() -> None:
    refusal(video_bytes(frames=0, container="matroska"))


def test_limits_on_length_and_pixels_are_refused_with_the_limit() -> None:
    data = video_bytes(frames=20, rate=10)
    with override_settings(MAX_VIDEO_SECONDS=1):
        assert "at most 1 seconds" in refusal(data)
    with override_settings(MAX_IMAGE_PIXELS=64 * 48 - 1):
        assert "64 x 48 pixels" in refusal(data)
    with override_settings(MEDIA_DECODE_TIMEOUT_SECONDS=0):
        assert "longer than 0 seconds" in refusal(data)


def test_a_length_that_the_header_hides_is_refused_from_the_frames() -> None:
    # Fragments without an index: the header knows no duration.
    data = video_bytes(
        frames=5, stamps=[0, 1000, 2000, 3000, 4000], container_options={"movflags": "frag_every_frame+empty_moov"}
    )
    with override_settings(MAX_VIDEO_SECONDS=3):
        assert "too long" in refusal(data)


def test_frames_that_grow_in_the_middle_of_the_stream_keep_the_first_size() -> None:
    small, large = (
        video_bytes(frames=frames, size=size, container="mpeg", codec="mpeg2video", rate=25)
        for frames, size in ((4, (64, 48)), (12, (96, 64)))
    )
    video = sample(small + large)
    assert video.frames.shape == (4, 48, 64, 3)


def test_a_video_that_its_edit_list_cuts_short_is_read_as_far_as_it_shows() -> None:
    video = sample(shorter_by_edit_list(video_bytes(options={"bf": "0"}), 0.5))
    assert numbers_of(video.frames) == [0, 3, 6, 9]


def test_a_last_sample_without_bytes_does_not_spoil_a_video() -> None:
    video = sample(with_empty_last_sample(video_bytes(options={"bf": "0"})))
    assert numbers_of(video.frames) == [0, 6, 12, 18]


def test_a_cover_is_no_video_and_hides_none() -> None:
    assert "no video, only sound" in refusal(cover_bytes(film=False))
    video = sample(cover_bytes(film=True))
    assert video.frames.shape == (4, 48, 64, 3)
    assert numbers_of(video.frames) == [0, 6, 13, 19]


def test_an_index_that_claims_more_frames_than_a_video_may_have_is_refused_before_it_is_built() -> None:
    assert "too long" in refusal(claiming_samples(80_000_000))


def test_an_index_of_boxes_without_end_is_refused() -> None:
    data = video_bytes(frames=2)
    assert "damaged" in refusal(data + b"\0\0\0\x08free" * 300_000)
    nested = bytearray(data)
    for _ in range(1000):
        nested += b"\0\0\0\0moov"
    assert len(sample(bytes(nested)).frames) == 2


def test_sound_that_would_make_a_large_table_is_left_out() -> None:
    data = bytearray(cover_bytes(film=True))
    sound = data.index(b"smhd")
    for box, place in ((b"stsz", 12), (b"stts", 12)):
        at = data.index(box, sound) + place
        data[at : at + 4] = (80_000_000).to_bytes(4)
    assert numbers_of(sample(bytes(data)).frames) == [0, 6, 13, 19]


# --- what the model sees smaller is sampled smaller


def test_frames_are_reduced_to_what_the_model_sees_where_they_are_many_pixels() -> None:
    sizes = VisionSizes(32, 2, (4 * 1024, 64 * 1024), (8 * 1024, 256 * 1024))
    data = video_bytes(frames=40, size=(1280, 720))
    whole = sample(data)
    seen = sample_video(data, media_limits(), PART, sizes)
    columns, rows = sizes.video_size(len(whole.frames), 1280, 720)
    assert columns < 1280
    assert seen.frames.shape == (len(whole.frames), rows, columns, 3)
    assert seen.timestamps_seconds == whole.timestamps_seconds
    expected = [Image.fromarray(frame).resize((columns, rows), Image.Resampling.BICUBIC) for frame in whole.frames]
    assert np.array_equal(seen.frames, np.stack([np.asarray(frame) for frame in expected]))


def test_frames_of_few_pixels_are_left_to_the_models_own_processor() -> None:
    sizes = VisionSizes(32, 2, (4 * 1024, 64 * 1024), (8 * 1024, 9 * 1024))
    data = video_bytes()
    seen = sample_video(data, media_limits(), PART, sizes)
    assert np.array_equal(seen.frames, sample(data).frames)


@pytest.mark.parametrize("data", [video_bytes(), video_bytes(frames=1), turned_video_bytes()])
def test_a_check_says_what_sampling_will_give(data: bytes) -> None:
    video = sample_video(data, media_limits(), PART)
    shape = check_video(data, media_limits(), PART)
    assert (shape.frames, shape.height, shape.width) == video.frames.shape[:3]


def test_a_check_refuses_what_sampling_would_refuse() -> None:
    data = bytearray(video_bytes(container="mov", codec="mjpeg", pixel_format="yuvj420p"))
    start = data.index(b"mdat") + 8
    data[start : start + 400] = bytes(400)
    with pytest.raises(InvalidMedia, match="damaged"):
        check_video(bytes(data), media_limits(), PART)
