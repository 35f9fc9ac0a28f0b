"""Draw one specimen from a seed and an index."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from PIL import Image

from ocr.reading.schema import FIELD_BY_PATH, KtpFields, as_contract, from_contract
from ocr.specimens.card import draw_card
from ocr.specimens.conditions import CONDITIONS, show, spoil
from ocr.specimens.fonts import Faces, packaged_faces
from ocr.specimens.holder import make_holder
from ocr.specimens.layout import CARD_RATIO
from ocr.specimens.others import draw_other
from ocr.specimens.writing import Character, characters

DEFAULT_WIDTH = 1024


@dataclass(frozen=True, slots=True)
class Specimen:
    """A picture and its right answer."""

    #: RGB
    image: Image.Image
    #: a key of ``CONDITIONS``
    condition: str
    kind: Literal["ktp", "other"]
    #: the right answer; "" if the card prints nothing there, if the value is hidden, and if it is not a card
    fields: KtpFields
    #: ``Field.column`` of the values that are printed and cannot be read, because covered or cut off
    hidden: tuple[str, ...]
    #: of the values in ``fields``, where each character is printed; without blanks
    characters: tuple[Character, ...]

    @property
    def values(self) -> dict[str, str]:
        """``fields`` flat, keyed by ``Field.path``."""
        return from_contract(self.fields)


def make_specimen(
    seed: int,
    index: int,
    condition: str | None = None,
    *,
    width: int = DEFAULT_WIDTH,
    height: int | None = None,
    faces: Faces | None = None,
) -> Specimen:
    """Specimen ``index`` of ``seed`` in ``condition``, or in one drawn by the weights of ``CONDITIONS``.

    The picture is ``width`` pixels wide (or high, if the card lies on its side) and has a card's proportions unless
    ``height`` is given. ``faces`` defaults to the packaged fonts. Raises KeyError for an unknown condition.
    """
    # Seeded with a text: Random ignores the sign of an int, and the hash of a tuple depends on the process.
    random = Random(f"specimen/{seed}/{index}")  # noqa: S311
    drawn = random.choices(tuple(CONDITIONS), tuple(CONDITIONS.values()))[0]
    condition = condition or drawn
    CONDITIONS[condition]
    faces = faces or packaged_faces()
    size = (width, height or round(width / CARD_RATIO))
    if condition == "other":
        picture = spoil(random, "flat", draw_other(random, faces, size))
        return Specimen(picture, condition, "other", as_contract({}), (), ())

    holder = make_holder(random)
    card = draw_card(random, holder, faces, round(width * random.choice((1.0, 1.25, 1.5))))
    shown = show(random, condition, card.image, card.boxes, size)
    lost = {path for (path, _, _), hidden in zip(card.marks, shown.hidden, strict=True) if hidden}
    values = {path: "" if path in lost else value for path, value in holder.values.items()}
    return Specimen(
        image=shown.picture,
        condition=condition,
        kind="ktp",
        fields=as_contract(values),
        hidden=tuple(FIELD_BY_PATH[path].column for path in values if path in lost),
        characters=tuple(mark for mark in characters(card.marks, shown.boxes) if mark.path not in lost),
    )
