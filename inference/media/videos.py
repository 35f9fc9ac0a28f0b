"""Sample frames from a video, evenly over time, without ever holding more than the frames that are wanted.

Two passes over the file in memory. The first reads the packets without decoding them: that gives the real time
of every frame. The second decodes only the stretches from a key frame to a wanted frame. It uses one thread and does
not seek by the container's index, so that the same bytes always give the same frames.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from PIL import Image

from inference.engine.types import Video
from inference.engine.vision import VisionSizes
from inference.errors import InvalidMedia
from inference.media.budget import RequestBudget
from inference.media.film import Deadline, Film, bad_index, opened, read_film, video_content_type
from inference.media.formats import film_metadata, jpeg
from inference.media.formats.bare import Unreadable
from inference.media.formats.blanks import Blank
from inference.media.formats.video import container_of
from inference.media.limits import Limits, check_shape
from inference.media.shared import PixelBuffer, Place, Placed

#: frames with at most this many pixels together are left for the model's own processor to reduce
REDUCED_FROM_PIXELS = 2**22


@dataclass(frozen=True, slots=True)
class VideoShape:
    """What the model will see of a video: how many frames, and of which size."""

    content_type: str
    #: pixels of a frame: as stored (from ``survey_video``) or upright (from ``check_video``)
    width: int
    height: int
    frames: int
    #: parts of the file that are metadata and need not be kept; only ``check_video`` finds them
    metadata: tuple[Blank, ...] = field(default=(), repr=False)

    @property
    def pixels(self) -> int:
        return self.width * self.height * self.frames


def survey_video(data: bytes, limits: Limits, param: str | None) -> VideoShape:
    """What ``sample_video`` will give, found without decoding. Raises the same errors, except those about pixels."""
    deadline = Deadline(limits.video_decode_seconds, param)
    with opened(data, limits, param) as (container, stream):
        film = read_film(container, stream, deadline, limits, param)
        size = _size(stream.width, stream.height, len(film.wanted), limits)
    return VideoShape(video_content_type(data, param=param), *size, max(2, len(film.wanted)))


def check_video(data: bytes, limits: Limits, param: str | None, budget: RequestBudget | None = None) -> VideoShape:
    """Check that the frames that the model will see can be decoded. Raises the same errors as ``sample_video``.

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
                # Sampling needs this memory. It is never touched, so it costs nothing, but the limit must allow it.
                buffer = np.empty((max(2, len(film.wanted)) + 1, rows, columns, 3), np.uint8)
                size = _turned((columns, rows), frame)
    if size is None:
        raise _no_frames(param)
    del buffer
    return VideoShape(video_content_type(data, param=param), *size, max(2, count), metadata)


def _metadata(data: bytes, param: str | None) -> tuple[Blank, ...]:
    container = container_of(data)
    try:
        if container is not None and container.reader == "mov":
            return film_metadata.in_mp4(data)
        if container is not None and container.reader == "matroska":
            return film_metadata.in_matroska(data)
    except Unreadable:
        raise bad_index(param) from None
    return ()


def place_video(
    data: bytes, limits: Limits, param: str | None, sizes: VisionSizes | None, place: Place | None
) -> tuple[np.ndarray | Placed, list[float]]:
    """``sample_video`` for another process: the frames are put into ``place``. Returns them with their times."""
    buffer = PixelBuffer(place)
    video = sample_video(data, limits, param, sizes, buffer)
    return buffer.result(video.frames), list(video.timestamps_seconds)


def sample_video(
    data: bytes,
    limits: Limits,
    param: str | None,
    sizes: VisionSizes | None = None,
    buffer: PixelBuffer | None = None,
) -> Video:
    """At most ``limits.video_frames`` frames, about two a second, the first and the last among them.

    Every frame is upright RGB; together they have at most ``limits.video_pixels`` pixels, reduced in size where
    they would have more. Those of more than ``REDUCED_FROM_PIXELS`` are reduced to what the model of ``sizes`` sees.
    The only frame of a video is given twice. They are put into ``buffer``. Raises InvalidMedia where the file is no
    video of an accepted format, is damaged or cut off, or is over one of the other limits.
    """
    buffer = buffer or PixelBuffer(None)
    pixels: np.ndarray | None = None
    times: list[float] = []
    with _frames(data, limits, param) as (film, frames):
        for when, frame in frames:
            if pixels is None:
                size = _size(frame.width, frame.height, len(film.wanted), limits)
                seen = _seen_size(*size, max(2, len(film.wanted)), sizes)
                columns, rows = _turned(seen, frame)
                # All together from the start: a list of them would be copied into one.
                pixels = buffer.empty((max(2, len(film.wanted)), rows, columns, 3))
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


def first_frame(data: bytes, limits: Limits, param: str | None) -> Image.Image:
    """The first frame that the model sees, upright and reduced as ``sample_video`` reduces it. Raises as that does."""
    with _frames(data, limits, param) as (film, frames):
        for _, frame in frames:
            columns, rows = _size(frame.width, frame.height, len(film.wanted), limits)
            rgb = frame.to_ndarray(format="rgb24", width=columns, height=rows, interpolation=Interpolation.BICUBIC)
            return Image.fromarray(np.ascontiguousarray(np.rot90(rgb, _quarter_turns(frame))))
    raise _no_frames(param)


@contextmanager
def _frames(
    data: bytes,
    limits: Limits,
    param: str | None,
    *,
    metadata: tuple[Blank, ...] = (),
    budget: RequestBudget | None = None,
) -> Iterator[tuple[Film, Iterator[tuple[float, VideoFrame]]]]:
    """What the packets say, and the frames that are wanted as they are decoded, each with its time."""
    deadline = Deadline(limits.video_decode_seconds, param)
    with opened(data, limits, param, metadata) as (container, stream):
        film = read_film(container, stream, deadline, limits, param)
        if budget is not None:
            budget.add_video(max(2, len(film.wanted)), *_size(stream.width, stream.height, len(film.wanted), limits))
            budget.check()
    # A new reader: not every container can be read twice.
    with opened(data, limits, param, metadata) as (container, stream):
        decoded = _decode(container, stream, film.stretches, deadline, limits)
        if film.rate is not None:
            rate = film.rate
            shown = ((float(n / rate), frame) for n, frame in enumerate(decoded))
        else:
            # Not frame.time: frames that come out at the end of a stretch have lost their time base.
            shown = ((float(frame.pts * film.time_base), frame) for frame in decoded if frame.pts is not None)
        yield film, _pick(shown, film.wanted, limits, param)


def _decode(
    container: InputContainer,
    stream: VideoStream,
    stretches: list[tuple[int, int]],
    deadline: Deadline,
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
    """The size at which the model sees frames of this size, if reducing them to it is worthwhile."""
    if sizes is None or count * width * height <= REDUCED_FROM_PIXELS:
        return width, height
    return sizes.reduced_video(count, width, height) or (width, height)


def max_video_pixels(limits: Limits, sizes: VisionSizes | None) -> int:
    """Most pixels of all frames that ``sample_video`` gives together."""
    return min(limits.video_pixels, max(REDUCED_FROM_PIXELS, sizes.video_pixels[1])) if sizes else limits.video_pixels


def _no_frames(param: str | None) -> InvalidMedia:
    return InvalidMedia("The video has no frames that can be decoded.", param=param)
