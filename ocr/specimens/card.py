"""Draws a specimen card, flat and clean."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import numpy as np
from PIL import Image

from ocr.specimens.background import card_background, mark_specimen, scribble, silhouette
from ocr.specimens.fonts import Faces, Font, font
from ocr.specimens.holder import Holder
from ocr.specimens.layout import CARD_RATIO, Layout, make_layout
from ocr.specimens.writing import Colour, Page

#: maximum characters on a line of a value that may take two lines
_WRAPPED = ("nama", "alamat.name", "tempat_lahir", "agama")


@dataclass(frozen=True, slots=True)
class Card:
    """A drawn card, and the positions of its values' characters."""

    image: Image.Image
    #: field, place in the value, text
    marks: list[tuple[str, int, str]]
    #: [characters, 4], left, top, right, bottom in pixels of ``image``
    boxes: np.ndarray


def draw_card(random: Random, holder: Holder, faces: Faces, width: int) -> Card:
    """The card, ``width`` pixels wide."""
    size = (width, round(width / CARD_RATIO))
    page = Page(card_background(random, size, holder.foreign))
    pen = _Pen(random, holder, faces, page)
    pen.draw()
    mark_specimen(page.image, random, pen.bold_face)
    return Card(page.image, page.marks(), page.boxes())


class _Pen:
    def __init__(self, random: Random, holder: Holder, faces: Faces, page: Page) -> None:
        self._random = random
        self._holder = holder
        self._page = page
        self._width, self._height = page.image.size
        position = random.randrange(len(faces.regular))
        self._regular = faces.regular[position]
        self.bold_face = faces.bold[min(position, len(faces.bold) - 1)]
        self._number_face = random.choice(faces.number)
        self._wrap_at = random.choice((22, 26, 30))
        self._label_ink = _ink(random)
        self._value_ink = _ink(random) if random.random() < 0.3 else self._label_ink
        rows = sum(len(list(self._lines(path))) for _, path, _ in _ROWS)
        self._layout: Layout = make_layout(random, rows)

    def draw(self) -> None:
        layout, page, random = self._layout, self._page, self._random
        header = font(self.bold_face, layout.header_size * self._height)
        for text, y in zip((self._holder.province, self._holder.regency), layout.header_y, strict=True):
            page.write(text, 0.5 * self._width, y * self._height, header, self._label_ink, centred=True)
        self._draw_number()
        self._draw_rows()
        silhouette(page.image, random, self._box(layout.photo))
        small = font(self._regular, layout.value_size * self._height * 0.9)
        for text, y in zip((self._holder.issued_at, self._holder.issued_on), layout.issue_y, strict=True):
            fitted = self._fitted(text, small, 0.24)
            page.write(text, layout.issue_x * self._width, y * self._height, fitted, self._value_ink, centred=True)
        if random.random() < 0.8:
            scribble(page.image, random, self._box(layout.signature))

    def _draw_number(self) -> None:
        layout = self._layout
        y = layout.number_y * self._height
        label = font(self._regular, layout.number_size * self._height * self._random.choice((0.75, 1.0)))
        self._page.write("NIK", layout.label_x * self._width, y, label, self._label_ink)
        self._page.write(":", layout.colon_x * self._width, y, label, self._label_ink)
        number = font(self._number_face, layout.number_size * self._height)
        number = self._fitted(self._holder.values["nik"], number, layout.value_x_max - layout.number_x - 0.04)
        self._page.write(
            self._holder.values["nik"],
            layout.number_x * self._width,
            y,
            number,
            self._value_ink,
            spacing=layout.number_spacing * layout.number_size * self._height * 0.3,
            path="nik",
        )

    def _draw_rows(self) -> None:
        layout, page = self._layout, self._page
        y = layout.first_row_y * self._height
        labels = font(self._regular, layout.label_size * self._height)
        face = self.bold_face if layout.bold_values else self._regular
        values = font(face, layout.value_size * self._height)
        for label, path, indented in _ROWS:
            x = (layout.sub_label_x if indented else layout.label_x) * self._width
            text = label.upper() if layout.capital_labels else label
            # One blank stays free before the colon.
            fitted = labels.fitted(text + " ", layout.colon_x * self._width - x)
            page.write(text, x, y, fitted, self._label_ink)
            page.write(":", layout.colon_x * self._width, y, labels, self._label_ink)
            if path == "jenis_kelamin":
                self._draw_blood_type(y, labels, values)
            for line in self._lines(path):
                self._draw_line(path, line, y, values)
                y += layout.row_step * self._height

    def _draw_line(self, path: str, line: tuple[str, int], y: float, values: Font) -> None:
        layout, text, place = self._layout, line[0], line[1]
        x = layout.value_x * self._width
        room = (layout.blood_label_x - 0.01 if path == "jenis_kelamin" else layout.value_x_max) - layout.value_x
        spacing = layout.value_spacing * layout.value_size * self._height
        rest = ""
        if (
            path == "tempat_lahir"
            and self._holder.values["tgl_lahir"]
            and place + len(text) == len(self._holder.values[path])
        ):
            # One printed line holds two fields.
            rest = ", " + self._holder.values["tgl_lahir"]
        values = self._fitted(text + rest, values, room - len(text + rest) * spacing / self._width)
        end = self._page.write(text, x, y, values, self._value_ink, spacing=spacing, path=path, place=place)
        if rest:
            end = self._page.write(rest[:2], end, y, values, self._value_ink, spacing=spacing)
            self._page.write(rest[2:], end, y, values, self._value_ink, spacing=spacing, path="tgl_lahir")

    def _draw_blood_type(self, y: float, labels: Font, values: Font) -> None:
        x = self._page.write("Gol. Darah : ", self._layout.blood_label_x * self._width, y, labels, self._label_ink)
        self._page.write(self._holder.blood_type, x, y, values, self._value_ink)

    def _lines(self, path: str) -> Iterator[tuple[str, int]]:
        """The printed lines of a value, and the index in the value at which each begins."""
        text = self._holder.values[path]
        # The date follows the place and needs room.
        room = self._wrap_at + 4 - (10 if path == "tempat_lahir" else 0)
        cut = text.rfind(" ", 0, room)
        if path in _WRAPPED and len(text) > room and cut > 3:
            yield text[:cut], 0
            yield text[cut + 1 :], cut + 1
        else:
            yield text, 0

    def _fitted(self, text: str, wanted: Font, room: float) -> Font:
        """``wanted``, or a smaller size if the text would be wider than ``room``, a part of the card's width."""
        return wanted.fitted(text, room * self._width)

    def _box(self, box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        left, top, right, bottom = box
        return left * self._width, top * self._height, right * self._width, bottom * self._height


#: label, the field whose value follows it, whether it is indented
_ROWS: tuple[tuple[str, str, bool], ...] = (
    ("Nama", "nama", False),
    ("Tempat/Tgl Lahir", "tempat_lahir", False),
    ("Jenis Kelamin", "jenis_kelamin", False),
    ("Alamat", "alamat.name", False),
    ("RT/RW", "alamat.rt_rw", True),
    ("Kel/Desa", "alamat.kel_desa", True),
    ("Kecamatan", "alamat.kecamatan", True),
    ("Agama", "agama", False),
    ("Status Perkawinan", "status_perkawinan", False),
    ("Pekerjaan", "pekerjaan", False),
    ("Kewarganegaraan", "kewarganegaraan", False),
    ("Berlaku Hingga", "berlaku_hingga", False),
)


def _ink(random: Random) -> Colour:
    dark = random.randint(0, 75)
    return dark, min(255, dark + random.randint(0, 12)), min(255, dark + random.randint(0, 30))
