"""Keep only those parts of a picture file that its pixels need: metadata never decides whether it can be read.

Comments, profiles, EXIF, XMP, IPTC and maker's notes are dropped before any decoder sees the file: decoders fail on
metadata that is damaged or merely large. The same bytes are stored, so the place and the device that a photograph names
are not kept. Which way is up is all that stays, as the smallest EXIF block there is.
"""

from __future__ import annotations

from dataclasses import dataclass

#: the orientation of a picture that is stored upright
UPRIGHT = 1


class Unreadable(Exception):
    """The file is cut off or damaged before the end of its pixels."""


@dataclass(frozen=True, slots=True)
class BareImage:
    """A picture without its metadata."""

    #: pixel for pixel the same picture
    data: bytes
    #: pixels, as they are stored
    width: int
    height: int
    #: EXIF's number for the turn that makes it upright, 1 to 8; ``data`` contains it too
    orientation: int = UPRIGHT
    #: scans of a progressive JPEG; 1 for all other files
    scans: int = 1
    #: the same file with other bytes where it ends too early: both decode to the same pixels if none is missing
    control: bytes | None = None
    #: what a decoder must keep in memory before it can give the first row
    buffered_bytes: int = 0

    @property
    def upright_size(self) -> tuple[int, int]:
        """(width, height) after the turn."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)
