"""What the reader is shown while it learns, and what it is told about it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ocr.prompt import INSTRUCTION
from ocr.schema import FIELDS
from ocr.specimens import make_specimen
from ocr.specimens.fonts import packaged_faces
from ocr.specimens.writing import Character
from training.answers import ONLY_READS_CARDS, answer_text, skeleton
from training.examples import ALPHABET, COLUMNS, ROWS, card_example, eye_labels
from training.feed import Plan, card_batch, encode, page_batch
from training.pages import make_page


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from training.tokenizer import make_tokenizer

    return make_tokenizer()


@pytest.fixture(scope="module")
def plan(tokenizer: Any) -> Plan:
    pieces = {piece: tokenizer.convert_tokens_to_ids(piece) for piece in skeleton()}
    letters = {character: tokenizer.encode(character)[0] for character in ALPHABET + " "}
    return Plan(
        seed=1, size=(512, 320), cards=3, pages=2, fonts=(), vocabulary=pieces | letters, end_of_turn=7, repeats=1
    )


def test_every_letter_of_a_value_is_one_token_and_so_is_all_between_two_values(tokenizer: Any) -> None:
    values = make_specimen(1, 1, "flat", width=256).values
    tokens = tokenizer.encode(answer_text(values))
    assert len(tokens) == sum(map(len, values.values())) + len(FIELDS) + 1


def test_the_feed_cuts_answers_as_the_tokenizer_does(tokenizer: Any, plan: Plan) -> None:
    for index in range(40):
        text = answer_text(make_specimen(2, index, width=256).values)
        assert encode(plan.vocabulary, text) == tokenizer.encode(text)


def test_the_prompt_is_a_few_tokens(tokenizer: Any) -> None:
    assert len(tokenizer.encode(INSTRUCTION)) < 10


def test_the_engine_can_decode_what_the_reader_writes(tokenizer: Any) -> None:
    from inference.engine.vocabulary import Vocabulary

    token_bytes = Vocabulary.of(tokenizer).token_bytes
    for text in (answer_text(make_specimen(1, 1, "flat").values), ONLY_READS_CARDS, "Über 5 €"):
        assert b"".join(token_bytes[i] for i in tokenizer.encode(text)).decode() == text


def test_the_answer_is_the_contract_as_the_prompt_lays_it_out() -> None:
    specimen = make_specimen(1, 1, "flat")
    assert json.loads(answer_text(specimen.values)) == specimen.fields
    assert answer_text({}).splitlines()[1] == '  "nik": "",'


def test_the_eye_is_asked_for_the_character_at_its_place() -> None:
    box = (32 + 8.0, 64 + 16.0, 32 + 12.0, 64 + 20.0)
    labels = eye_labels([Character("nama", 4, "B", box)], 96, 96)
    letters = labels.letters.reshape(3, 3, ROWS, COLUMNS)
    assert ALPHABET[letters[2, 1, 1, 2] - 1] == "B"
    assert np.count_nonzero(letters) == 1
    assert labels.fields.reshape(3, 3, ROWS)[2, 1].tolist() == [0, 2, 0]
    assert labels.places.reshape(3, 3, ROWS)[2, 1].tolist() == [-1, 4, -1]


def test_every_printed_letter_of_an_answer_says_where_it_is_printed(plan: Plan) -> None:
    specimen = make_specimen(1, 1, "flat", width=512, height=320)
    example = card_example(specimen, lambda text: encode(plan.vocabulary, text), plan.end_of_turn)
    letters = {token: letter for letter, token in plan.vocabulary.items() if len(letter) == 1}
    printed = [letters[token] for token in example.answer[example.printed_in >= 0].tolist()]
    assert "".join(printed) == "".join(character.text for character in _in_order(specimen))
    # The number stands on one line, in tokens one beside the other.
    number = example.printed_in[1:17]
    assert (np.diff(number) >= 0).all() and number[-1] - number[0] < 16


def _in_order(specimen: Any) -> list[Character]:
    order = [field.path for field in FIELDS]
    return sorted(specimen.characters, key=lambda character: (order.index(character.path), character.place))


def test_pages_hold_many_more_letters_than_cards() -> None:
    pixels, marks = make_page(1, 1, packaged_faces(), (256, 160), 320)
    assert pixels.shape == (160, 256, 3)
    inside = [mark for mark in marks if mark.box[0] > 0 and mark.box[2] < 256 and mark.box[1] > 0 and mark.box[3] < 160]
    assert len(inside) > 100


def test_batches_are_the_same_every_time(plan: Plan) -> None:
    for draw in (card_batch, page_batch):
        one, again, other = draw(plan, 3), draw(plan, 3), draw(plan, 4)
        assert np.array_equal(one.pixels, again.pixels) and np.array_equal(one.letters, again.letters)
        assert not np.array_equal(one.pixels, other.pixels)


def test_pictures_of_a_batch_have_one_shape(plan: Plan) -> None:
    shapes = {card_batch(plan, index).pixels.shape[1:3] for index in range(40)}
    assert shapes <= {(320, 512), (512, 320)}
    assert (320, 512) in shapes


def test_fonts_of_the_machine_can_be_added(tmp_path: Path) -> None:
    from ocr.specimens.fonts import faces_with

    (tmp_path / "OCRA.ttf").write_bytes(Path(packaged_faces().regular[0].path).read_bytes())
    (tmp_path / "Comic.ttf").write_bytes(b"")
    faces = faces_with([tmp_path])
    assert [face.path for face in faces.number if "OCRA" in face.path]
    assert not [face for face in (*faces.regular, *faces.bold, *faces.number) if "Comic" in face.path]
