"""The measures of a picture tell drawn specimens of one condition from those of the others."""

from __future__ import annotations

import io

import pytest
from PIL import Image

from ocr.quality import measure
from ocr.specimens import make_specimen

#: condition → its flag, and the least share of twelve specimens that must have it
FOUND = {"blur": ("blurred", 0.75), "dim": ("dark", 0.9), "glare": ("glare", 0.6), "tilted": ("tilted", 0.5)}
FOUND |= {"photocopy": ("grey_copy", 1.0), "small": ("low_detail", 0.9)}
SEED = 8


def flags_of(condition: str) -> list[list[str]]:
    found = []
    for index in range(12):
        encoded = io.BytesIO()
        make_specimen(SEED, index, condition).image.save(encoded, "JPEG", quality=92)
        found.append(measure(Image.open(encoded))["flags"])
    return found


@pytest.mark.parametrize("condition", FOUND)
def test_a_condition_is_found(condition: str) -> None:
    flag, share = FOUND[condition]
    found = flags_of(condition)
    assert sum(flag in flags for flags in found) >= share * len(found)


def test_a_flat_card_has_no_flag() -> None:
    assert sum(bool(flags) for flags in flags_of("flat")) <= 1


def test_a_small_picture_is_called_small() -> None:
    image = make_specimen(SEED, 0, "flat").image
    assert "small" not in measure(image)["flags"]
    assert "small" in measure(image.resize((400, 252)))["flags"]


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (1, 2000), (2048, 7), (640, 640)])
def test_no_picture_is_too_odd_to_be_measured(size: tuple[int, int]) -> None:
    for colour in ("black", "white", "red"):
        found = measure(Image.new("RGB", size, colour))
        assert (found["width"], found["height"]) == size
        assert found["tilt"] == 0
