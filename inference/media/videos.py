"""Sample frames from a video, evenly over time, without ever holding more than the frames that are wanted.

Two passes over the file in memory. The first reads the packets without decoding them: that gives the real time
of every frame. The second decodes only the stretches that lead from a key frame to a wanted frame. One thread
and no seeking by the container's index: the same bytes always give the same frames.
"""

from __future__ import annotations

import io
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction

import av
import av.error
import numpy as np
from av.container import InputContainer
from av.stream import Disposition
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from PIL import Image

from inference.engine.types import Video
from inference.engine.vision import VisionSizes
from inference.errors import InvalidMedia
from inference.media.budget import RequestBudget
from inference.media.formats import film_metadata, jpeg, mp4
from inference.media.formats.bare import Unreadable
from inference.media.formats.blanks import Blank, BlankedFile, in_order
from inference.media.formats.video import container_of, is_cut_off
from inference.media.limits import Limits, check_shape
from inference.media.shared import PixelRoom, Place, Placed

#: as Qwen3-VL's own video processor samples
FRAMES_PER_SECOND = 2
MIN_FRAMES = 4
#: where a file says nothing about its frame rate
ASSUMED_RATE = Fraction(24)
#: no camera's video has more; a file with more packets a second is made to wear the server out
MAX_PACKETS_PER_SECOND = 240
#: of a track that is no video; compressed sound of hours has less, raw sound one for each of its values
MAX_SOUND_SAMPLES = 1_000_000
#: frames with no more pixels together are left to the model's own processor to reduce
REDUCED_FROM_PIXELS = 2**22


@dataclass(frozen=True, slots=True)
class _Packet:
    """A frame that is still packed, in the order of decoding."""

    #: when it is shown, in units of the stream's time base; None where the container does not say
    pts: int | None
    is_key: bool
    #: decoded for the sake of others, never shown
    is_hidden: bool


@dataclass(frozen=True, slots=True)
class _Film:
    """What the packets say: which frames to take, and what to decode for them."""

    #: seconds
    wanted: list[float]
    stretches: list[tuple[int, int]]
    #: frames a second, where frames are counted because their times are not known
    rate: Fraction | None
    time_base: Fraction
    #: seconds
    begins_at: float


class _Deadline:
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
class VideoShape:
    """What of a video the model will see."""

    content_type: str
    #: pixels of a frame; of a survey as they are stored, else upright
    width: int
    height: int
    frames: int
    #: what of the file is no film and need not be kept; found by a check only
    metadata: tuple[Blank, ...] = field(default=(), repr=False)

    @property
    def pixels(self) -> int:
        return self.width * self.height * self.frames


def survey_video(data: bytes, limits: Limits, param: str | None) -> VideoShape:
    """What ``sample_video`` will give, found without decoding. Raises as that does, where it is not for the pixels."""
    deadline = _Deadline(limits.video_decode_seconds, param)
    with _opened(data, limits, param) as (container, stream):
        film = _read_film(container, stream, deadline, limits, param)
        size = _size(stream.width, stream.height, len(film.wanted), limits)
    return VideoShape(video_content_type(data, param=param), *size, max(2, len(film.wanted)))


def check_video(data: bytes, limits: Limits, param: str | None, budget: RequestBudget | None = None) -> VideoShape:
    """Decode the frames that the model will see, to see that it can be done. Raises as ``sample_video`` does.

    Before they are decoded they are counted in ``budget``, which may refuse them. No frame is kept or made RGB. What is
    decoded is the file without the metadata that it found.
    """
    metadata = _metadata(data, param)
    size: tuple[int, int] | None = None
    count = 0
    with _frames(data, limits, param, metadata=metadata, budget=budget) as (film, frames):
        for count, (_, frame) in enumerate(frames, 1):  # noqa: B007  (their number)
            if size is None:
                columns, rows = _size(frame.width, frame.height, len(film.wanted), limits)
                # Whoever samples it needs this room. It is never touched, so it is not taken, but it must be allowed.
                room = np.empty((max(2, len(film.wanted)) + 1, rows, columns, 3), np.uint8)
                size = _turned((columns, rows), frame)
    if size is None:
        raise _no_frames(param)
    del room
    return VideoShape(video_content_type(data, param=param), *size, max(2, count), metadata)


def _metadata(data: bytes, param: str | None) -> tuple[Blank, ...]:
    container = container_of(data)
    try:
        if container is not None and container.reader == "mov":
            return film_metadata.in_mp4(data)
        if container is not None and container.reader == "matroska":
            return film_metadata.in_matroska(data)
    except Unreadable:
        raise _bad_index(param) from None
    return ()


def place_video(
    data: bytes, limits: Limits, param: str | None, sizes: VisionSizes | None, place: Place | None
) -> tuple[np.ndarray | Placed, list[float]]:
    """``sample_video`` for another process: the frames, put where it says, and their times."""
    room = PixelRoom(place)
    video = sample_video(data, limits, param, sizes, room)
    return room.result(video.frames), list(video.timestamps_seconds)


def sample_video(
    data: bytes,
    limits: Limits,
    param: str | None,
    sizes: VisionSizes | None = None,
    room: PixelRoom | None = None,
) -> Video:
    """At most ``limits.video_frames`` frames, about two a second, the first and the last among them.

    Every frame is upright RGB; together they have at most ``limits.video_pixels`` pixels, reduced in size where
    they would have more. Those of more than ``REDUCED_FROM_PIXELS`` are reduced to what the model of ``sizes`` sees.
    The only frame of a video is given twice. They are put into ``room``. Raises InvalidMedia where the file is no video
    of an accepted format, is damaged or cut off, or is over one of the other limits.
    """
    room = room or PixelRoom(None)
    pixels: np.ndarray | None = None
    times: list[float] = []
    with _frames(data, limits, param) as (film, frames):
        for when, frame in frames:
            if pixels is None:
                size = _size(frame.width, frame.height, len(film.wanted), limits)
                seen = _seen_size(*size, max(2, len(film.wanted)), sizes)
                columns, rows = _turned(seen, frame)
                # All together from the start: a list of them would be copied into one.
                pixels = room.empty((max(2, len(film.wanted)), rows, columns, 3))
            rgb = frame.to_ndarray(format="rgb24", width=size[0], height=size[1], interpolation=Interpolation.BICUBIC)
            if seen != size:
                # As for pictures: FFmpeg's filter would differ from the processor's by more than rounding.
                rgb = np.asarray(Image.fromarray(rgb).resize(seen, Image.Resampling.BICUBIC))
            # The rotation is noted counter-clockwise, as numpy turns.
            pixels[len(times)] = np.rot90(rgb, _quarter_turns(frame))
            times.append(round(when - film.begins_at, 6))
    if pixels is None:
        raise _no_frames(param)
    if len(times) == 1:
        # The model takes frames in pairs, and its processor refuses less than one.
        pixels[1] = pixels[0]
        times *= 2
    return Video(frames=pixels[: len(times)], timestamps_seconds=times)


@contextmanager
def _frames(
    data: bytes,
    limits: Limits,
    param: str | None,
    *,
    metadata: tuple[Blank, ...] = (),
    budget: RequestBudget | None = None,
) -> Iterator[tuple[_Film, Iterator[tuple[float, VideoFrame]]]]:
    """What the packets say, and the frames that are wanted as they are decoded, each with its time."""
    deadline = _Deadline(limits.video_decode_seconds, param)
    with _opened(data, limits, param, metadata) as (container, stream):
        film = _read_film(container, stream, deadline, limits, param)
        if budget is not None:
            budget.add_video(max(2, len(film.wanted)), *_size(stream.width, stream.height, len(film.wanted), limits))
            budget.check()
    # A fresh reader: not every container can be read twice.
    with _opened(data, limits, param, metadata) as (container, stream):
        decoded = _decode(container, stream, film.stretches, deadline, limits)
        if film.rate is not None:
            rate = film.rate
            shown = ((float(n / rate), frame) for n, frame in enumerate(decoded))
        else:
            # Not frame.time: frames that come out at the end of a stretch have lost their time base.
            shown = ((float(frame.pts * film.time_base), frame) for frame in decoded if frame.pts is not None)
        yield film, _pick(shown, film.wanted, limits, param)


def video_content_type(data: bytes, *, param: str | None) -> str:
    """The content type that the first bytes show. Raises InvalidMedia where it is no accepted format."""
    container = container_of(data)
    if container is None:
        raise _not_a_video(param)
    return container.content_type


@contextmanager
def _opened(
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
            # A cover is a picture that belongs to the sound.
            films = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
            if not films:
                raise InvalidMedia("The file holds no video, only sound, pictures or other data.", param=param)
            stream = films[0]
            length = container.duration
            if length is not None and length / av.time_base > limits.video_seconds:
                raise _too_long(limits, param)
            if not (stream.codec_context and stream.width and stream.height):
                raise InvalidMedia("The video's codec or frame size is unknown.", param=param)
            check_shape(stream.width, stream.height, limits, kind="video", param=param)
            # A frame may say that it is larger than its stream.
            stream.codec_context.options = {"max_pixels": str(limits.image_pixels)}
            # One thread: what a damaged stream decodes to may depend on how threads share it.
            stream.codec_context.thread_count = 1
            yield container, stream
    except MemoryError:  # FFmpeg's has both kinds among its ancestors
        raise
    except av.error.FFmpegError:
        raise InvalidMedia("The video is damaged or cut off, or its codec is not supported.", param=param) from None


def _checked_index(data: bytes, limits: Limits, param: str | None) -> list[Blank]:
    """See that an MP4 names no more frames than a video may have, and no bytes behind the end of the file.

    FFmpeg makes a table of all samples when it opens the file. Tracks beside the film that would make it large are
    hidden from it.
    """
    try:
        index = mp4.read_index(data)
    except Unreadable:
        raise _bad_index(param) from None
    films = [track for track in index.tracks if track.is_video]
    if max([index.fragment_samples / 4, *(film.samples for film in films)]) > _most_packets(limits):
        raise _too_long(limits, param)
    if any(film.ends_at() > len(data) for film in films):
        raise InvalidMedia("The video is cut off: it ends before its last frame.", param=param)
    others = (track for track in index.tracks if not track.is_video)
    return [Blank(track.at + 4, track.at + 8, b"free") for track in others if track.samples > MAX_SOUND_SAMPLES]


def _most_packets(limits: Limits) -> float:
    return limits.video_seconds * MAX_PACKETS_PER_SECOND


def _read_film(
    container: InputContainer, stream: VideoStream, deadline: _Deadline, limits: Limits, param: str | None
) -> _Film:
    packets = _read_packets(container, stream, deadline, limits, param)
    # AVI knows no times: those that its reader makes up are wrong where frames were reordered.
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
    return _Film(wanted, stretches, rate, time_base, times[0])


def _read_packets(
    container: InputContainer, stream: VideoStream, deadline: _Deadline, limits: Limits, param: str | None
) -> list[_Packet]:
    packets: list[_Packet] = []
    for packet in container.demux(stream):
        if packet.size == 0:  # the mark at the end, or a frame that shows the one before it longer
            continue
        deadline.check()
        if packet.is_corrupt:
            raise InvalidMedia("The video is damaged or cut off.", param=param)
        packets.append(_Packet(packet.pts, packet.is_keyframe, packet.is_discard))
        if len(packets) > _most_packets(limits):
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
            # The first of those with the same time: in recordings joined end to end the times start anew.
            position.setdefault(float(packet.pts * time_base), n)
    key_frames = [n for n, packet in enumerate(packets) if packet.is_key]
    stretches: list[tuple[int, int]] = []
    for when in wanted:
        at = position[when]
        # Frames stored behind a key frame but shown before it lean on the key frame before that one.
        start = max((n for n in key_frames if n <= at and float((packets[n].pts or 0) * time_base) <= when), default=0)
        if stretches and start <= stretches[-1][1]:
            stretches[-1] = (stretches[-1][0], max(stretches[-1][1], at + 1))
        else:
            stretches.append((start, at + 1))
    return stretches


def _decode(
    container: InputContainer,
    stream: VideoStream,
    stretches: list[tuple[int, int]],
    deadline: _Deadline,
    limits: Limits,
) -> Iterator[VideoFrame]:
    """The frames of the given stretches, in the order in which they are shown."""
    left = iter(stretches)
    stretch = next(left, None)
    packets = (packet for packet in container.demux(stream) if packet.size)
    is_jpeg = stream.codec_context.name == "mjpeg"
    for n, packet in enumerate(packets):
        if stretch is None:
            return
        deadline.check()
        if n < stretch[0]:
            continue
        if is_jpeg and jpeg.scans_in(bytes(packet)) > limits.image_scans:
            raise InvalidMedia(
                f"A frame of the video is made of more than {limits.image_scans} scans.", param=deadline.param
            )
        for frame in stream.codec_context.decode(packet):
            deadline.check()
            yield frame
        if n + 1 == stretch[1]:
            # Frames held back for reordering come out; then the decoder is made fit for the next key frame.
            yield from stream.codec_context.decode(None)
            stream.codec_context.flush_buffers()
            stretch = next(left, None)


def _pick(
    shown: Iterator[tuple[float, VideoFrame]], wanted: list[float], limits: Limits, param: str | None
) -> Iterator[tuple[float, VideoFrame]]:
    """Of the frames shown, the first at or after each wanted time. All are decoded, also those after the last."""
    pending = 0
    for when, frame in shown:
        # Times went through floating point twice: half a millisecond is far below any frame's length.
        if pending == len(wanted) or when < wanted[pending] - 0.0005:
            continue
        while pending < len(wanted) and wanted[pending] <= when + 0.0005:
            pending += 1
        check_shape(frame.width, frame.height, limits, kind="video", param=param)
        yield when, frame


def _quarter_turns(frame: VideoFrame) -> int:
    return round(frame.rotation / 90) % 4


def _turned(size: tuple[int, int], frame: VideoFrame) -> tuple[int, int]:
    """(width, height) of a frame of this size when it is upright."""
    return (size[1], size[0]) if _quarter_turns(frame) % 2 else size


def _size(width: int, height: int, count: int, limits: Limits) -> tuple[int, int]:
    """The size at which ``count`` frames stay within ``limits.video_pixels`` together."""
    scale = (limits.video_pixels / (count * width * height)) ** 0.5
    if scale >= 1:
        return width, height
    return max(1, int(width * scale)), max(1, int(height * scale))


def _seen_size(width: int, height: int, count: int, sizes: VisionSizes | None) -> tuple[int, int]:
    """The size at which the model sees frames of this size, where it is worth to reduce them to it."""
    if sizes is None or count * width * height <= REDUCED_FROM_PIXELS:
        return width, height
    return sizes.reduced_video(count, width, height) or (width, height)


def _bad_index(param: str | None) -> InvalidMedia:
    return InvalidMedia("The video's index is damaged.", param=param)


def most_video_pixels(limits: Limits, sizes: VisionSizes | None) -> int:
    """How many pixels the frames that ``sample_video`` gives may have together."""
    return min(limits.video_pixels, max(REDUCED_FROM_PIXELS, sizes.video_pixels[1])) if sizes else limits.video_pixels


def _no_frames(param: str | None) -> InvalidMedia:
    return InvalidMedia("The video has no frames that can be decoded.", param=param)


def _too_long(limits: Limits, param: str | None) -> InvalidMedia:
    return InvalidMedia(f"The video is too long: at most {limits.video_seconds:g} seconds are allowed.", param=param)


def _not_a_video(param: str | None) -> InvalidMedia:
    return InvalidMedia(
        "This is not a video that can be read. Accepted formats: MP4, MOV, WebM, MKV, AVI, MPEG, Ogg and GIF.",
        param=param,
    )
