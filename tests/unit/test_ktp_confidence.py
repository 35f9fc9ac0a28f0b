"""A value that the model was not sure of is flagged."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from ocr.extraction import sampling
from ocr.reading.confidence import Token, check, least_probabilities, stored_tokens
from ocr.reading.judging import judge_answer
from ocr.reading.problems import from_dict
from ocr.reading.prompt import EXAMPLE
from ocr.reading.schema import empty_values
from ocr.reading.uncertain import UncertainPlace, sentences
from training.answers import answer_text


def letters(text: str, unsure: dict[int, float] | None = None) -> list[Token]:
    """One token a byte, certain but at the offsets of ``unsure``, which have those probabilities."""
    probabilities = unsure or {}
    return [Token(bytes([byte]), math.log(probabilities.get(i, 1.0))) for i, byte in enumerate(text.encode())]


def test_the_least_likely_character_of_a_value_counts() -> None:
    text = '{"nik": "3171", "nama": "BUDI"}'
    at = text.index("3171")
    found = least_probabilities(letters(text, {at + 1: 0.7, at + 2: 0.4}))
    assert found == {"nik": pytest.approx(0.4), "nama": 1.0}


def test_the_end_of_a_value_can_be_uncertain_and_its_key_cannot() -> None:
    text = '{"nama": "BUDI"}'
    closing = text.rindex('"')
    assert least_probabilities(letters(text, {closing: 0.3})) == {"nama": pytest.approx(0.3)}
    assert least_probabilities(letters(text, {2: 0.3, closing + 1: 0.3})) == {"nama": 1.0}


def test_a_token_that_reaches_into_a_value_counts_for_it() -> None:
    tokens = [Token(b'{"nama": "BU', math.log(0.5)), Token(b'DI", "nik": "3', math.log(0.8)), Token(b'1"}', 0.0)]
    assert least_probabilities(tokens) == {"nama": pytest.approx(0.5), "nik": pytest.approx(0.8)}


def test_the_nested_address_is_found_by_its_own_names() -> None:
    text = answer_text(EXAMPLE)
    at = text.index(EXAMPLE["alamat.name"])
    found = least_probabilities(letters(text, {at: 0.25}))
    assert set(found) == set(EXAMPLE)
    assert [path for path, probability in found.items() if probability < 1] == ["alamat.name"]


def test_of_several_answers_the_least_certain_counts() -> None:
    text = '{"nik": "1"} {"nik": "2"}'
    assert least_probabilities(letters(text, {text.index("1"): 0.2})) == {"nik": pytest.approx(0.2)}


def test_escapes_and_quotes_do_not_end_a_value() -> None:
    text = r'{"nama": "A \"B\" \\", "nik": "1"}'
    found = least_probabilities(letters(text, {text.index("B"): 0.6}))
    assert found == {"nama": pytest.approx(0.6), "nik": 1.0}


def test_only_values_below_the_limit_are_flagged_and_empty_ones_never() -> None:
    text = '{"nik": "3171", "nama": "", "agama": "ISLAM"}'
    values = empty_values() | {"nik": "3171", "agama": "ISLAM"}
    tokens = letters(text, {text.index("3171"): 0.89, text.index('"",') + 1: 0.1, text.index("ISLAM"): 0.91})
    assert [(problem.field, problem.code) for problem in check(values, tokens, below=0.9)] == [("nik", "uncertain")]
    assert check(values, tokens, below=0) == []


def test_tokens_that_are_never_text_take_no_room() -> None:
    stored: list[dict[str, Any]] = [
        {"token": "<|im_start|>", "bytes": None, "logprob": -3.0, "top": []},
        {"token": '{"nik": "', "bytes": list(b'{"nik": "'), "logprob": 0.0, "top": []},
        {"token": '1"}', "bytes": list(b'1"}'), "logprob": -0.1, "top": []},
    ]
    assert least_probabilities(stored_tokens(stored)) == {"nik": pytest.approx(math.exp(-0.1))}


def test_a_reading_without_probabilities_flags_nothing_as_uncertain() -> None:
    reading = judge_answer(answer_text(EXAMPLE | {"nik": "3171994101900001"}), finish_reason="stop")
    assert not [problem for problem in reading.problems if problem.code == "uncertain"]


def test_an_uncertain_value_is_kept_as_it_was_read() -> None:
    values = EXAMPLE | {"nik": "3171994101900001", "nama": "SPECIMENTA UJIBACA"}
    text = answer_text(values)
    tokens = letters(text, {text.index("SPECIMENTA"): 0.5})
    reading = judge_answer(text, finish_reason="stop", tokens=tokens)
    assert reading.values["nama"] == "SPECIMENTA UJIBACA"
    assert [problem.field for problem in reading.problems if problem.code == "uncertain"] == ["nama"]


def test_probabilities_are_asked_for_only_where_they_are_used(settings: Any) -> None:
    assert sampling().logprobs == 3
    settings.OCR_DOUBT_BELOW = 0
    assert sampling().logprobs is None


def digits(nik: str, at: int, probability: float, others: dict[str, float]) -> list[Token]:
    """An answer with this number, one token a character, and one uncertain digit."""
    text = f'{{"nik": "{nik}"}}'
    tokens = letters(text)
    tokens[text.index(nik) + at] = Token(
        nik[at].encode(),
        math.log(probability),
        tuple((other.encode(), math.log(p)) for other, p in {nik[at]: probability, **others}.items()),
    )
    return tokens


def flags_of(text_value: str, tokens: list[Token], path: str = "nik") -> list[Any]:
    return check(empty_values() | {path: text_value}, tokens, below=0.9)


def test_an_uncertain_digit_is_named_with_its_alternatives() -> None:
    nik = "3171990101900001"
    (flag,) = flags_of(nik, digits(nik, 12, 0.6, {"5": 0.3, "8": 0.05, "1": 0.04}))

    (place,) = flag.uncertain
    assert (place.at, place.end, place.text, place.others) == (12, 13, "0", (("5", 0.3), ("8", 0.05)))
    assert flag.place_sentences == ["Digit 13 may be 0 or 5 or 8."]
    # It is stored and comes back; what is logged and listed says nothing of the card.
    assert from_dict(json.loads(json.dumps(flag.as_dict()))) == flag
    assert "13" not in flag.sentence


def test_the_common_prefix_of_two_tokens_is_certain() -> None:
    tokens = [
        Token(b'{"nama": "', 0.0),
        Token(b"BUDI", math.log(0.5), ((b"BUDI", math.log(0.5)), (b"BUDA", math.log(0.4)))),
        Token(b'"}', 0.0),
    ]
    (flag,) = flags_of("BUDI", tokens, "nama")
    assert [(place.at, place.text, place.others) for place in flag.uncertain] == [(3, "I", (("A", 0.4),))]


@pytest.mark.parametrize("other", [b"BU", b"BUDIMAN", b'BUDI"}', b"\\n", b"\xff", b""])
def test_an_alternative_that_says_nothing_is_not_named(other: bytes) -> None:
    tokens = [
        Token(b'{"nama": "', 0.0),
        Token(b"BUDI", math.log(0.5), ((other, math.log(0.4)),)),
        Token(b'"}', 0.0),
    ]
    (flag,) = flags_of("BUDI", tokens, "nama")
    assert all(not place.others for place in flag.uncertain)
    assert flag.field == "nama"


def test_an_uncertain_end_says_that_the_value_may_go_on() -> None:
    text = '{"nama": "BUDI"}'
    (flag,) = flags_of("BUDI", letters(text, {text.rindex('"'): 0.5}), "nama")
    assert flag.place_sentences == ["The value may go on after character 4."]


@pytest.mark.parametrize("written", [' BUDI"}', '"} {"nama": "BUDI"}', '\\u0042UDI"}'])
def test_places_are_only_told_of_a_value_that_is_kept_to_the_letter(written: str) -> None:
    text = '{"nama": "' + written
    (flag,) = flags_of("BUDI", letters(text, {text.index("U"): 0.5, text.index("DI"): 0.5}), "nama")
    assert flag.uncertain == ()


def test_places_are_counted_in_characters() -> None:
    text = '{"nama": "ÉÉBUDI"}'
    at = len(text[: text.index("B")].encode())
    (flag,) = flags_of("ÉÉBUDI", letters(text, {at: 0.5}), "nama")
    assert [(place.at, place.text) for place in flag.uncertain] == [(2, "B")]


def test_many_uncertain_places_are_counted_and_not_listed() -> None:
    text = '{"nama": "BUDI"}'
    at = text.index("BUDI")
    (flag,) = flags_of("BUDI", letters(text, dict.fromkeys(range(at, at + 4), 0.5)), "nama")
    assert flag.place_sentences == ["The model is not sure of 4 places in this value."]


def test_an_uncertain_space_is_named_and_not_shown() -> None:
    place = UncertainPlace(8, " ", 0.5, (("R", 0.3), (" ", 0.1)))
    assert sentences("alamat.name", [place]) == ["From character 9, a space may be “R” or a space."]
    assert sentences("alamat.name", [UncertainPlace(8, " ", 0.5)]) == [
        "From character 9, the model is not sure of a space."
    ]
