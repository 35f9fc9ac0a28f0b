"""What a specimen promises: it is fiction, it says so, and its label is what it prints."""

from __future__ import annotations

import numpy as np
import pytest

from ocr.reading.checks import run_checks
from ocr.reading.schema import FIELDS
from ocr.reading.vocabularies import HIGHEST_DISTRICT_CODE
from ocr.specimens import CONDITIONS, Specimen, make_specimen

CARDS = [condition for condition in CONDITIONS if condition != "other"]


@pytest.fixture(scope="module")
def many() -> list[Specimen]:
    return [make_specimen(11, index, width=384) for index in range(150)]


def test_the_same_seed_and_index_give_the_same_specimen() -> None:
    one, again = make_specimen(1, 5), make_specimen(1, 5)
    assert one.fields == again.fields
    assert one.characters == again.characters
    assert np.array_equal(np.asarray(one.image), np.asarray(again.image))


@pytest.mark.parametrize("other", [(1, 6), (2, 5)])
def test_another_seed_or_index_gives_another_specimen(other: tuple[int, int]) -> None:
    assert make_specimen(1, 5, "flat").fields != make_specimen(*other, "flat").fields


@pytest.mark.parametrize("condition", CARDS)
def test_every_condition_can_be_asked_for(condition: str) -> None:
    specimen = make_specimen(3, 1, condition, width=512)
    assert specimen.condition == condition
    assert specimen.kind == "ktp"
    assert specimen.image.mode == "RGB"
    assert 512 in specimen.image.size


def test_an_unknown_condition_is_refused() -> None:
    with pytest.raises(KeyError):
        make_specimen(1, 1, "under water")


def test_without_a_condition_all_of_them_are_drawn(many: list[Specimen]) -> None:
    assert {specimen.condition for specimen in many} == set(CONDITIONS)


def test_no_person_can_have_the_number(many: list[Specimen]) -> None:
    numbers = [specimen.fields["nik"] for specimen in many if specimen.fields["nik"]]
    assert len(numbers) > 100
    assert all(len(number) == 16 and number.isdecimal() for number in numbers)
    assert all(int(number[4:6]) > HIGHEST_DISTRICT_CODE for number in numbers)


def test_most_numbers_agree_with_the_card_and_some_do_not(many: list[Specimen]) -> None:
    differing = {"nik_birth_date_differs", "nik_gender_differs", "nik_serial_zero"}
    codes = [{problem.code for problem in run_checks(specimen.values)} & differing for specimen in many]
    assert 0 < sum(map(bool, codes)) < len(many) / 4


def test_characters_spell_the_values(many: list[Specimen]) -> None:
    for specimen in many:
        values = specimen.values
        spelled = {path: [" "] * len(value) for path, value in values.items()}
        for character in specimen.characters:
            spelled[character.path][character.place] = character.text
        assert {path: "".join(letters) for path, letters in spelled.items()} == values


def test_characters_lie_in_the_picture(many: list[Specimen]) -> None:
    for specimen in many:
        width, height = specimen.image.size
        for left, top, right, bottom in (character.box for character in specimen.characters):
            assert left < right and top < bottom
            assert left > -8 and right < width + 8 and top > -8 and bottom < height + 8


@pytest.mark.parametrize("condition", ["flat", "tilted", "perspective", "quarter_turn", "framed"])
def test_there_is_ink_where_a_character_is_said_to_be(condition: str) -> None:
    specimen = make_specimen(5, 2, condition)
    grey = np.asarray(specimen.image.convert("L")).astype(int)
    inked = [
        np.ptp(grey[int(top) : int(bottom) + 1, int(left) : int(right) + 1]) > 40
        for left, top, right, bottom in (character.box for character in specimen.characters)
    ]
    assert np.mean(inked) > 0.95


@pytest.mark.parametrize("condition", ["covered", "cropped"])
def test_a_hidden_value_is_empty_and_named(condition: str) -> None:
    specimens = [make_specimen(4, index, condition, width=384) for index in range(20)]
    columns = {field.column: field.path for field in FIELDS}
    assert sum(bool(specimen.hidden) for specimen in specimens) >= 5
    for specimen in specimens:
        assert all(specimen.values[columns[column]] == "" for column in specimen.hidden)


def test_what_is_no_card_has_no_values() -> None:
    for index in range(15):
        specimen = make_specimen(6, index, "other", width=384)
        assert specimen.kind == "other"
        assert not any(specimen.values.values())
        assert not specimen.characters


def test_the_odd_cards_occur() -> None:
    values = [make_specimen(8, index, "flat", width=256).values for index in range(250)]
    assert any(" " not in value["nama"] for value in values), "one-word names"
    assert any(len(value["nama"]) > 30 for value in values), "names on two lines"
    assert any(value["kewarganegaraan"] not in ("WNI", "") for value in values), "foreigners"
    assert any(value["agama"] == "" for value in values) and any(value["agama"] == "-" for value in values)
    assert any(value["berlaku_hingga"][:1].isdigit() for value in values)
    assert any("-" in value["alamat.rt_rw"] for value in values)


def test_every_card_says_in_its_margin_that_it_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the mark taken away, the picture differs in its lower margin and across its middle."""
    from ocr.specimens import card

    marked = np.asarray(make_specimen(9, 1, "flat", width=1024).image).astype(int)
    monkeypatch.setattr(card, "mark_specimen", lambda image, random, face: None)
    plain = np.asarray(make_specimen(9, 1, "flat", width=1024).image).astype(int)
    difference = abs(marked - plain).max(axis=2) > 20
    height = len(difference)
    assert difference[int(0.94 * height) :].mean() > 0.01
    assert difference[int(0.3 * height) : int(0.7 * height)].mean() > 0.01
