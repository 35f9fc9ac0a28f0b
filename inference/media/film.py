"""The packets of a video, read without decoding: when each frame is shown, and which to decode for the wanted ones."""

from __future__ import annotations

import io
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.stream import VideoStream

from inference.errors import InvalidMedia
from inference.media.formats import mp4
from inference.media.formats.bare import Unreadable
from inference.media.formats.blanks import Blank, BlankedFile, in_order
from inference.media.formats.video import container_of, is_cut_off
from inference.media.limits import Limits, check_shape

#: as Qwen3-VL's own video processor samples
FRAMES_PER_SECOND = 2
MIN_FRAMES = 4
#: frames per second of a file that does not state its frame rate
ASSUMED_RATE = Fraction(24)
#: no camera's video has more; a file with more packets per second is considered an attack
MAX_PACKETS_PER_SECOND = 240
#: maximum samples of a track that is not video; hours of compressed sound have fewer, raw sound has one for each value
MAX_SOUND_SAMPLES = 1_000_000


class Deadline:
    def __init__(self, seconds: float, param: str | None) -> None:
        self.seconds = seconds
        self.end = time.monotonic() + self.seconds
        self.param = param

    def check(self) -> None:
        if time.monotonic() > self.end:
            raise InvalidMedia(
                f"Decoding the video took longer than {self.seconds:g} seconds; send a shorter one.",
                param=self.param,
            )


@dataclass(frozen=True, slots=True)
class _Packet:
    """A frame that is still encoded, in decoding order."""

    #: when it is shown, in units of the stream's time base; None where the container does not say
    pts: int | None
    is_key: bool
    #: decoded only because other frames need it, never shown
    is_hidden: bool


@dataclass(frozen=True, slots=True)
class Film:
    """What the packets say: which frames to take, and what to decode for them."""

    #: seconds
    wanted: list[float]
    stretches: list[tuple[int, int]]
    #: frames a second, where frames are counted because their times are not known
    rate: Fraction | None
    time_base: Fraction
    #: seconds
    begins_at: float


def video_content_type(data: bytes, *, param: str | None) -> str:
    """The content type that the first bytes show. Raises InvalidMedia where it is no accepted format."""
    container = container_of(data)
    if container is None:
        raise _not_a_video(param)
    return container.content_type


@contextmanager
def opened(
    data: bytes, limits: Limits, param: str | None, metadata: tuple[Blank, ...] = ()
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """The file's film, its sizes checked. FFmpeg's errors inside become InvalidMedia."""
    if not data:
        raise InvalidMedia("The video is empty (0 bytes).", param=param)
    kind = container_of(data)
    if kind is None:
        raise _not_a_video(param)
    if is_cut_off(data, kind):
        raise InvalidMedia("The video is cut off: the file ends too early.", param=param)
    hidden = metadata
    if kind.reader == "mov":
        hidden = in_order(data, [*metadata, *_checked_index(data, limits, param)])
    file = BlankedFile(data, hidden) if hidden else io.BytesIO(data)
    try:
        with av.open(file, mode="r", format=kind.reader, metadata_errors="replace") as container:
            # A cover is an image that belongs to the sound.
            films = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            if not films:
                raise InvalidMedia("The file contains no video, only sound, pictures or other data.", param=param)
            stream = films[0]
            length = container.duration
            if length is not None and length / av.time_base > limits.video_seconds:
                raise _too_long(limits, param)
            if not (stream.codec_context and stream.width and stream.height):
                raise InvalidMedia("The video's codec or frame size is unknown.", param=param)
            check_shape(stream.width, stream.height, limits, kind="video", param=param)
            # A frame may say that it is larger than its stream.
            stream.codec_context.options = {"max_pixels": str(limits.image_pixels)}
            # One thread: what a damaged stream decodes to may depend on how it is split among threads.
            stream.codec_context.thread_count = 1
            yield container, stream
    except MemoryError:  # FFmpeg's has both kinds among its ancestors
        raise
    except av.error.FFmpegError:
        raise InvalidMedia("The video is damaged or cut off, or its codec is not supported.", param=param) from None


def read_film(
    container: InputContainer, stream: VideoStream, deadline: Deadline, limits: Limits, param: str | None
) -> Film:
    packets = _read_packets(container, stream, deadline, limits, param)
    # AVI has no times: those that FFmpeg's reader makes up are wrong where frames were reordered.
    by_count = container.format.name == "avi" and not all(packet.is_key for packet in packets)
    by_count = by_count or any(packet.pts is None for packet in packets)
    rate = (stream.average_rate or stream.guessed_rate or ASSUMED_RATE) if by_count else None
    time_base = stream.time_base or Fraction(1, 1000)
    times = _shown_times(packets, rate, time_base)
    if not times:
        raise InvalidMedia("The video has no frames.", param=param)
    if times[-1] - times[0] > limits.video_seconds:
        raise _too_long(limits, param)
    wanted = _choose(times, limits.video_frames)
    stretches = [(0, len(packets))] if by_count else _stretches(packets, wanted, time_base)
    return Film(wanted, stretches, rate, time_base, times[0])


def _checked_index(data: bytes, limits: Limits, param: str | None) -> list[Blank]:
    """Check that an MP4's index lists no more frames than allowed and no data beyond the end of the file.

    FFmpeg makes a table of all samples when it opens the file. Other tracks that would make this table large are
    hidden from it: the blanks that do so are returned.
    """
    try:
        index = mp4.read_index(data)
    except Unreadable:
        raise bad_index(param) from None
    films = [track for track in index.tracks if track.is_video]
    if max([index.fragment_samples / 4, *(film.samples for film in films)]) > _max_packets(limits):
        raise _too_long(limits, param)
    if any(film.ends_at() > len(data) for film in films):
        raise InvalidMedia("The video is cut off: it ends before its last frame.", param=param)
    others = (track for track in index.tracks if not track.is_video)
    return [Blank(track.at + 4, track.at + 8, b"free") for track in others if track.samples > MAX_SOUND_SAMPLES]


def _max_packets(limits: Limits) -> float:
    return limits.video_seconds * MAX_PACKETS_PER_SECOND


def _read_packets(
    container: InputContainer, stream: VideoStream, deadline: Deadline, limits: Limits, param: str | None
) -> list[_Packet]:
    packets: list[_Packet] = []
    for packet in container.demux(stream):
        if packet.size == 0:  # the mark at the end, or a frame that shows the one before it longer
            continue
        deadline.check()
        if packet.is_corrupt:
            raise InvalidMedia("The video is damaged or cut off.", param=param)
        packets.append(_Packet(packet.pts, packet.is_keyframe, packet.is_discard))
        if len(packets) > _max_packets(limits):
            raise _too_long(limits, param)
    return packets


def _shown_times(packets: list[_Packet], rate: Fraction | None, time_base: Fraction) -> list[float]:
    """When each frame is shown, in seconds, in order: counted at ``rate`` if one is given, else as noted."""
    shown = [packet for packet in packets if not packet.is_hidden]
    if rate is not None:
        return [float(n / rate) for n in range(len(shown))]
    stamps = {packet.pts for packet in shown if packet.pts is not None}
    return [float(pts * time_base) for pts in sorted(stamps)]


def _choose(times: list[float], max_frames: int) -> list[float]:
    """The times to sample: even steps from the first to the last, each moved to the nearest frame."""
    length = times[-1] - times[0]
    count = max(1, min(max(round(length * FRAMES_PER_SECOND), MIN_FRAMES), max_frames, len(times)))
    chosen: dict[float, None] = {}
    for target in np.linspace(times[0], times[-1], count):
        after = min(bisect_left(times, target), len(times) - 1)
        before = max(after - 1, 0)
        chosen[times[before] if target - times[before] <= times[after] - target else times[after]] = None
    return list(chosen)


def _stretches(packets: list[_Packet], wanted: list[float], time_base: Fraction) -> list[tuple[int, int]]:
    """The runs of packets [start, end) to decode, in order, so that every wanted frame comes out."""
    position: dict[float, int] = {}
    for n, packet in enumerate(packets):
        if packet.pts is not None and not packet.is_hidden:
            # The first of those with the same time: in recordings joined end to end the times start again.
            position.setdefault(float(packet.pts * time_base), n)
    key_frames = [n for n, packet in enumerate(packets) if packet.is_key]
    stretches: list[tuple[int, int]] = []
    for when in wanted:
        at = position[when]
        # Frames stored after a key frame but shown before it depend on the previous key frame.
        start = max((n for n in key_frames if n <= at and float((packets[n].pts or 0) * time_base) <= when), default=0)
        if stretches and start <= stretches[-1][1]:
            stretches[-1] = (stretches[-1][0], max(stretches[-1][1], at + 1))
        else:
            stretches.append((start, at + 1))
    return stretches


def bad_index(param: str | None) -> InvalidMedia:
    return InvalidMedia("The video's index is damaged.", param=param)


def _too_long(limits: Limits, param: str | None) -> InvalidMedia:
    return InvalidMedia(f"The video is too long: at most {limits.video_seconds:g} seconds are allowed.", param=param)


def _not_a_video(param: str | None) -> InvalidMedia:
    return InvalidMedia(
        "This is not a video in an accepted format. Accepted formats: MP4, MOV, WebM, MKV, AVI, MPEG, Ogg and GIF.",
        param=param,
    )
