"""Tell the container of a video by its first bytes.

FFmpeg must never guess: among what it would recognise are playlists, which are texts that make it open other
files and addresses.
"""

from __future__ import annotations

from dataclasses import dataclass

from inference.media.formats import matroska

#: MPEG transport streams are packets of this many bytes, each beginning with the sync byte
TS_PACKET_BYTES = 188
TS_SYNC = 0x47


@dataclass(frozen=True, slots=True)
class Container:
    """A container format that is accepted."""

    #: name of FFmpeg's demuxer
    reader: str
    content_type: str


def container_of(data: bytes) -> Container | None:
    """The container that the bytes begin like, or None where it is not an accepted one."""
    head = data[:64]
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        quicktime = head[4:8] != b"ftyp" or head[8:12] == b"qt  "
        return Container("mov", "video/quicktime" if quicktime else "video/mp4")
    if head.startswith(b"\x1a\x45\xdf\xa3"):
        return Container("matroska", "video/webm" if b"webm" in head else "video/x-matroska")
    if head.startswith(b"RIFF") and head[8:12] == b"AVI ":
        return Container("avi", "video/x-msvideo")
    if head.startswith((b"GIF87a", b"GIF89a")):
        return Container("gif", "image/gif")
    if head.startswith(b"OggS"):
        return Container("ogg", "video/ogg")
    if head.startswith(b"\x00\x00\x01\xba"):
        return Container("mpeg", "video/mpeg")
    if len(data) > TS_PACKET_BYTES and data[0] == data[TS_PACKET_BYTES] == TS_SYNC:
        return Container("mpegts", "video/mp2t")
    return None


def is_cut_off(data: bytes, container: Container) -> bool:
    """Whether the file ends before its container says, where the container's reader would not notice.

    MPEG streams say nothing about their end: they are made to be cut anywhere.
    """
    if container.reader == "gif":
        # The last byte is a semicolon; some writers pad it.
        return not data.rstrip(b"\0\r\n").endswith(b";")
    if container.reader == "matroska":
        end = _segment_end(data)
        return end is not None and end > len(data)
    return False


def _segment_end(data: bytes) -> int | None:
    """Where a Matroska file's one segment ends; None where it was written without knowing, as browsers do."""
    header = matroska.size_of(data, 4)
    if header is None:
        return None
    segment = header[0] + header[1]
    if data[segment : segment + 4] != b"\x18\x53\x80\x67":
        return None
    size = matroska.size_of(data, segment + 4)
    return None if size is None else size[0] + size[1]
