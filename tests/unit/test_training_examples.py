"""What the reader is shown while it learns, and what it is told about it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from ocr.reading.prompt import INSTRUCTION
from ocr.reading.schema import FIELDS
from ocr.specimens import make_specimen
from ocr.specimens.fonts import packaged_faces
from ocr.specimens.writing import Character
from training.answers import ONLY_READS_CARDS, answer_text, skeleton
from training.examples import ALPHABET, COLUMNS, MAX_MOVED, ROWS, card_example, eye_labels, moved
from training.feed import Feed, Plan, card_batch, encode, page_batch
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
    # Its middle is 9 pixels right of and 10 below the corner of token (2, 1).
    box = (16 + 7.0, 32 + 8.0, 16 + 11.0, 32 + 12.0)
    labels = eye_labels([Character("nama", 4, "B", box)], 48, 48)
    letters = labels.letters.reshape(3, 3, ROWS, COLUMNS)
    assert ALPHABET[letters[2, 1, 1, 2] - 1] == "B"
    assert np.count_nonzero(letters) == 1
    assert labels.fields.reshape(3, 3, ROWS)[2, 1].tolist() == [0, 2]
    assert labels.places.reshape(3, 3, ROWS)[2, 1].tolist() == [-1, 4]


def test_every_printed_letter_of_an_answer_says_where_it_is_printed(plan: Plan) -> None:
    specimen = make_specimen(1, 1, "flat", width=512, height=320)
    example = card_example(specimen, lambda text: encode(plan.vocabulary, text), plan.end_of_turn)
    letters = {token: letter for letter, token in plan.vocabulary.items() if len(letter) == 1}
    printed = [letters[token] for token in example.answer[example.printed_in >= 0].tolist()]
    assert "".join(printed) == "".join(character.text for character in _in_order(specimen))
    # The number stands on one line, in tokens one beside the other.
    number = example.printed_in[1:17]
    assert (np.diff(number) >= 0).all() and number[-1] - number[0] < 32


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


def test_pictures_of_a_batch_have_one_shape_and_about_as_many_tokens_as_a_card(plan: Plan) -> None:
    from training.passes import Passes
    from training.reader_model import SIZES, make_model, make_processor

    processor = make_processor(SIZES["tiny"])
    passes = Passes(make_model(processor.tokenizer, SIZES["tiny"], seed=1), processor)
    shapes = {card_batch(plan, index).pixels.shape[1:3] for index in range(40)}
    assert {(320, 512), (512, 320)} < shapes
    for height, width in shapes:
        # Raises where the processor would scale a picture of that shape.
        assert passes.prompt_length((width, height)) > 0.96 * 640


def test_a_moved_specimen_shows_the_same_and_says_where_it_is_now() -> None:
    specimen = make_specimen(1, 3, "flat", width=512, height=320)
    for seed in range(8):
        other = moved(Random(seed), specimen)
        assert other.fields == specimen.fields and other.image.size == specimen.image.size
        was, now = specimen.characters[0].box, other.characters[0].box
        right, down = round(now[0] - was[0]), round(now[1] - was[1])
        assert abs(right) <= MAX_MOVED and abs(down) <= MAX_MOVED
        here, there = (
            np.asarray(picture.image)[100 + y : 200 + y, 100 + x : 300 + x].astype(int)
            for picture, x, y in ((specimen, 0, 0), (other, right, down))
        )
        # Moved as far as its marks, and all of it lighter or darker by one amount.
        inside = (here > 20) & (here < 235)
        assert np.ptp((there - here)[inside]) == 0


def test_what_can_be_read_is_never_moved_out_of_the_picture() -> None:
    for index in range(30):
        specimen = make_specimen(5, index, "cropped", width=512, height=320)
        inside = [mark for mark in specimen.characters if mark.box[0] >= 0 and mark.box[2] <= 512]
        places = {(mark.path, mark.place) for mark in inside}
        for mark in moved(Random(index), specimen).characters:
            if (mark.path, mark.place) in places:
                assert mark.box[0] >= -1e-6 and mark.box[2] <= 512 + 1e-6


def test_batches_of_one_drawing_differ_in_pixels_and_not_in_answers(plan: Plan) -> None:
    plan = dataclasses.replace(plan, repeats=3)
    first, second, other = (card_batch(plan, index) for index in (3, 4, 6))
    assert first.answers is not None and second.answers is not None and other.answers is not None
    assert np.array_equal(first.answers, second.answers)
    assert not np.array_equal(first.pixels, second.pixels)
    assert not np.array_equal(first.answers, other.answers)
    assert not np.array_equal(page_batch(plan, 3).letters, page_batch(plan, 4).letters)


def test_trainers_and_their_processes_draw_different_cards_and_go_on_where_they_were(plan: Plan) -> None:
    plan = dataclasses.replace(plan, repeats=2, cards=1)

    def drawn(done: int, trainer: int, count: int) -> list[bytes]:
        feed = Feed(plan, "cards", processes=2, done=done, share=(trainer, 2))
        try:
            return [batch.pixels.tobytes() for batch, _ in zip(feed, range(count), strict=False)]
        finally:
            feed.close()

    first, second = drawn(0, 0, 8), drawn(0, 1, 4)
    assert len({*first, *second}) == 12
    assert first[0] == card_batch(plan, 0).pixels.tobytes()
    assert drawn(4, 0, 4) == first[4:]


def test_a_feed_that_draws_no_more_says_so(plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.feed.MAX_SECONDS", 0.2)
    feed = Feed(plan, "cards", processes=1)
    feed.close()
    with pytest.raises(RuntimeError, match="No batch was drawn"):
        for _ in feed:
            pass


def test_fonts_of_the_machine_can_be_added(tmp_path: Path) -> None:
    from ocr.specimens.fonts import faces_with

    (tmp_path / "OCRA.ttf").write_bytes(Path(packaged_faces().regular[0].path).read_bytes())
    (tmp_path / "Comic.ttf").write_bytes(b"")
    faces = faces_with([tmp_path])
    assert [face.path for face in faces.number if "OCRA" in face.path]
    assert not [face for face in (*faces.regular, *faces.bold, *faces.number) if "Comic" in face.path]
