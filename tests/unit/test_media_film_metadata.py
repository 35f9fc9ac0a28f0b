"""What is kept of a film's file: nothing that says where, when or with what it was taken, and every frame as it was."""

from __future__ import annotations

import asyncio
import base64
import io
import tempfile
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from inference.media.formats import mp4
from inference.media.formats.blanks import Blank, BlankedFile, blanked, in_order
from inference.media.limits import media_limits
from inference.media.load import FetchedMedia, load_all
from inference.media.parts import MediaSource
from inference.media.videos import sample_video
from tests.media_samples import GREY_STEP, cover_bytes, turned_video_bytes, video_bytes

PLACE = "-06.2088+106.8456"
SECRETS = {
    "location": f"{PLACE}/",
    "com.apple.quicktime.location.ISO6709": f"{PLACE}/",
    "title": "secret-title",
    "artist": "secret-artist",
    "comment": "secret-comment",
    "creation_time": "2024-02-03T04:05:06Z",
    "make": "secret-make",
}


def film(
    container: str = "mp4", codec: str = "libx264", options: dict[str, str] | None = None, *, frames: int = 20
) -> bytes:
    """A film whose frame n is grey of level n, with a place, a time and a device."""
    with tempfile.NamedTemporaryFile() as file:
        with av.open(file.name, "w", format=container, options=options or {}) as output:
            output.metadata.update(SECRETS)
            stream = output.add_stream(codec, rate=10, options={"g": "5"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.metadata.update({"title": "secret-track", "location": PLACE})
            for n in range(frames):
                grey = np.full((48, 64, 3), n * GREY_STEP % 256, np.uint8)
                output.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
            output.mux(stream.encode(None))
        return Path(file.name).read_bytes()


def loaded(data: bytes) -> FetchedMedia:
    source = MediaSource("video", "messages[0].content[0]", base64.b64encode(data).decode(), "base64")
    [media] = asyncio.run(load_all([source]))
    return media


def frames_of(data: bytes) -> tuple[np.ndarray, list[float]]:
    video = sample_video(data, media_limits(), None)
    return video.frames, list(video.timestamps_seconds)


def assert_same_film(before: bytes, after: bytes) -> None:
    assert len(before) == len(after)
    (frames, times), (kept_frames, kept_times) = frames_of(before), frames_of(after)
    assert np.array_equal(frames, kept_frames)
    assert times == kept_times


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("mp4", "libx264", {}),
        ("mp4", "libx264", {"movflags": "faststart"}),
        ("mp4", "libx264", {"movflags": "use_metadata_tags"}),
        ("mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
        ("mov", "libx264", {}),
        ("mov", "libx264", {"movflags": "use_metadata_tags"}),
        ("matroska", "libx264", {}),
        ("webm", "libvpx-vp9", {}),
        ("webm", "libvpx-vp9", {"live": "1"}),
        ("webm", "libvpx-vp9", {"cluster_size_limit": "500"}),
    ],
)
def test_the_place_the_time_and_the_device_are_not_kept_and_the_frames_are(
    container: str, codec: str, options: dict[str, str]
) -> None:
    data = film(container, codec, options)
    assert b"secret-title" in data
    kept = loaded(data).data
    for secret in (PLACE, "secret", "2024-02-03"):
        assert secret.encode() not in kept
    with av.open(io.BytesIO(kept)) as after:
        assert "creation_time" not in after.metadata
        assert not any("creation_time" in stream.metadata for stream in after.streams)
    assert_same_film(data, kept)
    # There is nothing left to blank.
    assert loaded(kept).data == kept


def test_a_track_of_positions_is_blanked_with_all_its_samples() -> None:
    data = bytearray(cover_bytes(film=True))
    sound = next(track for track in mp4.read_index(bytes(data)).tracks if b"soun" in track.handlers)
    [(start, end)] = sound.pieces(10)
    assert any(data[start:end])
    # What was sound is declared to be positions, as a camera's own track is.
    at = data.index(b"soun", sound.at)
    data[at : at + 4] = b"meta"
    kept = loaded(bytes(data)).data
    assert not any(kept[start:end])
    assert b"covr" not in kept
    assert_same_film(bytes(data), kept)


@pytest.mark.parametrize("kind", [b"uuid", b"free", b"skip", b"gps ", b"meta", b"udta"])
def test_boxes_that_are_not_of_the_film_are_blanked(kind: bytes) -> None:
    box = b"\0\0\0\x1b" + kind + b"GPS -06.2088 secret"
    plain = video_bytes()
    # The index stands at the end: a box more inside it moves no frame.
    at = plain.index(b"moov") - 4
    size = int.from_bytes(plain[at : at + 4]) + len(box)
    inside = plain[:at] + size.to_bytes(4) + plain[at + 4 :] + box
    for data in (plain + box, inside):
        kept = loaded(data).data
        assert b"secret" not in kept
        assert_same_film(data, kept)


@pytest.mark.parametrize("data", [turned_video_bytes(), video_bytes(options={"g": "5", "bf": "2"})])
def test_turns_and_reordered_frames_stay(data: bytes) -> None:
    assert_same_film(data, loaded(data).data)


def test_uneven_times_stay() -> None:
    data = video_bytes(stamps=[0, 40, 80, 500, 900, 930], frames=6, rate=Fraction(25))
    assert_same_film(data, loaded(data).data)


def test_a_file_reads_as_if_it_had_been_copied_and_blanked() -> None:
    data = bytes(range(1, 101))
    blanks = in_order(data, [Blank(90, 200), Blank(10, 20, b"ab"), Blank(12, 14), Blank(50, 51), Blank(30, 31, b"abc")])
    # One inside another and one that its head does not fit are left out.
    assert blanks == (Blank(10, 20, b"ab"), Blank(50, 51), Blank(90, 100))
    expected = blanked(data, blanks)
    assert expected[10:20] == b"ab" + bytes(8)
    assert in_order(expected, blanks) == ()
    for size in (1, 3, 7, 64, 200):
        for start in range(100):
            file = BlankedFile(data, blanks)
            file.seek(start)
            assert file.read(size) == expected[start : start + size]
            assert file.tell() == min(start + size, 100)
    assert BlankedFile(data, blanks).read() == expected
    assert BlankedFile(data, blanks).seek(-1, 2) == 99
