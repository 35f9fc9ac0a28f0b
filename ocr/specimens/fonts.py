"""The font faces of specimens. They are free fonts from pip packages, so that every machine draws the same card.

Faces that are installed on the machine (OCR-A and the like) can be added for training. Specimens made with them differ
from machine to machine.
"""

from __future__ import annotations

import functools
import importlib.resources
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import ImageFont


@dataclass(frozen=True, slots=True)
class Face:
    """One font file, and the values of its axes."""

    path: str
    #: values of a variable font's axes in the file's order; empty for a static font
    axes: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Faces:
    """The font files of a card."""

    regular: tuple[Face, ...]
    bold: tuple[Face, ...]
    #: for the identity number
    number: tuple[Face, ...]


#: package, file, axes of the regular and of the bold cut, and how often it is drawn
_PACKAGED: tuple[tuple[str, str, tuple[float, ...], tuple[float, ...], int], ...] = (
    # Arimo has the metrics and nearly the shapes of Arial, which most prints come closest to.
    ("fontpkg_arimo", "Arimo[wght].ttf", (400,), (700,), 4),
    ("fontpkg_roboto", "Roboto[wdth,wght].ttf", (400, 100), (700, 100), 1),
    ("fontpkg_roboto_condensed", "RobotoCondensed[wght].ttf", (400,), (700,), 1),
    ("fontpkg_open_sans", "OpenSans[wdth,wght].ttf", (400, 90), (700, 90), 1),
    ("fontpkg_archivo_narrow", "ArchivoNarrow[wght].ttf", (400,), (700,), 1),
)
_NUMBER_PACKAGE = ("fontpkg_roboto_mono", "RobotoMono[wght].ttf", (600,))

#: how file names begin that Debian's font packages have (fonts-liberation2, fonts-dejavu-core, fonts-ocr-a, -b)
_SYSTEM_REGULAR = (
    "LiberationSans-Regular",
    "LiberationSansNarrow-Regular",
    "DejaVuSansCondensed.ttf",
    "DejaVuSans.ttf",
)
_SYSTEM_BOLD = ("LiberationSans-Bold.ttf", "LiberationSansNarrow-Bold.ttf", "DejaVuSansCondensed-Bold.ttf")
_SYSTEM_NUMBER = ("OCRA.ttf", "OCRABold.ttf", "OCRB.otf", "DejaVuSansMono-Bold.ttf", "LiberationMono-Bold.ttf")


@functools.cache
def packaged_faces() -> Faces:
    """The faces of the pinned font packages; the same on every machine."""
    regular: list[Face] = []
    bold: list[Face] = []
    for package, name, regular_axes, bold_axes, times in _PACKAGED:
        path = _packaged_path(package, name)
        regular += [Face(path, regular_axes)] * times
        bold += [Face(path, bold_axes)] * times
    package, name, axes = _NUMBER_PACKAGE
    mono = Face(_packaged_path(package, name), axes)
    return Faces(tuple(regular), tuple(bold), (*bold, mono, mono, mono))


def faces_with(folders: Iterable[Path]) -> Faces:
    """The packaged faces and those that ``folders`` and what lies below hold of the known ones."""
    base = packaged_faces()
    files = sorted(path for folder in folders for path in folder.rglob("*.?tf"))

    def found(names: Sequence[str]) -> tuple[Face, ...]:
        return tuple(Face(str(path)) for path in files if any(path.name.startswith(name) for name in names))

    return Faces(
        base.regular + found(_SYSTEM_REGULAR),
        base.bold + found(_SYSTEM_BOLD),
        base.number + 2 * found(_SYSTEM_NUMBER),
    )


def _packaged_path(package: str, name: str) -> str:
    return str(importlib.resources.files(package) / "files" / name)


class Font:
    """A face at one size, with the widths of its characters."""

    def __init__(self, face: Face, size: float) -> None:
        self._face, self._size = face, size
        # Basic layout: one glyph per character and no ligatures, so that every box is known.
        self.pillow = ImageFont.truetype(face.path, size, layout_engine=ImageFont.Layout.BASIC)
        if face.axes:
            self.pillow.set_variation_by_axes(list(face.axes))
        self._advances: dict[str, float] = {}
        #: pixels from the baseline to the top of a capital
        self.cap_height = -self.pillow.getbbox("H", anchor="ls")[1]

    def advance(self, character: str) -> float:
        """Pixels from the left of ``character`` to the left of the next."""
        width = self._advances.get(character)
        if width is None:
            width = self._advances[character] = self.pillow.getlength(character)
        return width

    def width(self, text: str) -> float:
        return sum(map(self.advance, text))

    def fitted(self, text: str, room: float) -> Font:
        """This font, or the same face smaller where ``text`` would be wider than ``room`` pixels."""
        width = self.width(text)
        return self if width <= room else font(self._face, max(4.0, self._size * room / width))


@functools.lru_cache(maxsize=512)
def font(face: Face, size: float) -> Font:
    """``face`` at ``size`` pixels per em, to the half pixel. A Font must not be used by several threads."""
    return Font(face, round(size * 2) / 2)
