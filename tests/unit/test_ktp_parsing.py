from __future__ import annotations

import json

import pytest

from ocr.reading import lenient_json
from ocr.reading.parsing import MAX_ANSWER_CHARS, parse_answer, storable
from ocr.reading.prompt import EXAMPLE, EXAMPLE_JSON
from ocr.reading.schema import FIELDS, MAX_VALUE_CHARS, as_contract, empty_values
from tests.ktp_card import CARD

CARD_JSON = json.dumps(as_contract(CARD), indent=2)


def codes(reading, field=...):
    return {problem.code for problem in reading.problems if field is ... or problem.field == field}


@pytest.mark.parametrize(
    "answer",
    [
        CARD_JSON,
        f"```json\n{CARD_JSON}\n```",
        f"```\n{CARD_JSON}\n```",
        f"Here is what I read:\n\n{CARD_JSON}\n\nAnything else?",
        f"The {{fields}} are: {CARD_JSON}",
        f"<think>the NIK is {{blurred}}</think>\n{CARD_JSON}",
        f'the NIK is blurred, maybe {{"nik": "9"}}</think>{CARD_JSON}',
        f"[{CARD_JSON}]",
        json.dumps({"status": "ok", "data": {"ktp": as_contract(CARD)}}),
        CARD_JSON.replace("\n", "\r\n"),
        f"\ufeff{CARD_JSON}",
    ],
    ids=[
        "bare",
        "fenced",
        "fenced plain",
        "prose",
        "brace in prose",
        "thought",
        "thought without its start",
        "array",
        "wrapped",
        "crlf",
        "byte order mark",
    ],
)
def test_a_whole_answer_is_read_exactly_whatever_stands_around_it(answer):
    reading = parse_answer(answer)

    assert reading.values == CARD
    assert reading.problems == ()


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace('"SEUMUR HIDUP"', '"SEUMUR HIDUP",'),
        lambda text: text.replace('"TANAH KHAYALI"', '"TANAH KHAYALI",'),
        lambda text: text.replace(",\n", "\n"),
        lambda text: text.replace('"', "'"),
        lambda text: text[: text.rindex("}")],
        lambda text: text.replace('"3171990101900001"', "3171990101900001,"),
        lambda text: text.replace('"SPECIMENTO UJIBACA",', '"SPECIMENTO UJIBACA,'),
        lambda text: text.replace('"nik"', "nik").replace('"agama"', "agama"),
    ],
    ids=[
        "trailing comma",
        "nested trailing comma",
        "no commas",
        "single quotes",
        "unclosed",
        "bare number",
        "unclosed string",
        "bare keys",
    ],
)
def test_careless_json_is_read_and_said_to_be_repaired(damage):
    reading = parse_answer(damage(CARD_JSON))

    assert reading.values == CARD
    assert "repaired" in codes(reading)


def test_at_every_cut_no_value_is_invented_and_no_half_value_is_kept():
    for length in range(len(CARD_JSON)):
        reading = parse_answer(CARD_JSON[:length], finish_reason="length")
        for path, value in reading.values.items():
            assert value in ("", CARD[path]), CARD_JSON[:length]
        assert "truncated" in codes(reading)


def test_a_value_cut_in_the_middle_is_named():
    reading = parse_answer('{"nik": "3171990101900001", "nama": "SPECIM', finish_reason="length")

    assert reading.values["nik"] == CARD["nik"]
    assert reading.values["nama"] == ""
    assert "cut_value" in codes(reading, "nama")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("", "no_answer"),
        ("   \n", "no_answer"),
        ("<think>I see a card and", "no_answer"),
        ("I am sorry, I cannot read this.", "not_json"),
        ("{", "not_json"),
        ("}}}}{{{{", "not_json"),
        ("[1, 2, 3]", "not_json"),
        ('"nik"', "not_json"),
        ('{"animal": "cat"}', "wrong_shape"),
        ("\x00\x01ÿ" * 50, "not_json"),
    ],
)
def test_an_answer_without_a_reading_gives_empty_strings_and_the_reason(answer, code):
    reading = parse_answer(answer)

    assert reading.values == empty_values()
    assert [(problem.field, problem.code, problem.severity) for problem in reading.problems] == [(None, code, "error")]


@pytest.mark.parametrize(
    ("value", "text", "code"),
    [
        ("  SPECIMENTO \n UJIBACA ", "SPECIMENTO UJIBACA", None),
        (None, "", None),
        ("", "", None),
        ("-", "-", None),
        (["SPECIMENTO"], "SPECIMENTO", None),
        ({"value": "SPECIMENTO", "confidence": 0.9}, "SPECIMENTO", None),
        (["A", "B"], "", "wrong_type"),
        ({"first": "A"}, "", "wrong_type"),
        (True, "", "wrong_type"),
        (12, "12", None),
        ("A" * (MAX_VALUE_CHARS + 1), "", "too_long"),
        ("AB\u0000C\u202eD", "ABCD", None),
        ("A\ud800B", "A?B", None),
        ("null", "", "placeholder"),
        ("N/A", "", "placeholder"),
        ("...", "", "placeholder"),
        ("<nama>", "", "placeholder"),
        ("nama", "", "placeholder"),
        ("tidak terbaca", "", "placeholder"),
        ("[UNREADABLE]", "", "placeholder"),
        ("XXXX", "", "placeholder"),
        ("string", "", "placeholder"),
    ],
)
def test_a_value_of_any_kind_becomes_one_clean_text_or_nothing(value, text, code):
    reading = parse_answer(json.dumps({"nik": CARD["nik"], "nama": value}))

    assert reading.values["nama"] == text
    assert reading.values["nik"] == CARD["nik"]
    assert codes(reading, "nama") == ({code} if code else set())


def test_digits_of_a_number_are_kept_one_for_one():
    assert parse_answer('{"nik": 3171990101900001}').values["nik"] == "3171990101900001"
    assert parse_answer('{"nik": 31719901019000010000000000}').values["nik"] == "31719901019000010000000000"
    assert parse_answer('{"alamat": {"rt_rw": 003/004}}').values["alamat.rt_rw"] == "003/004"


def test_an_address_on_one_line_is_kept_whole():
    reading = parse_answer('{"nik": "1", "alamat": "JL. MAWAR KHAYALAN NO. 7"}')

    assert reading.values["alamat.name"] == "JL. MAWAR KHAYALAN NO. 7"
    assert reading.values["alamat.kecamatan"] == ""


def test_printed_labels_and_flat_names_find_their_fields():
    reading = parse_answer(
        json.dumps(
            {
                "NIK": CARD["nik"],
                "Nama": CARD["nama"],
                "Tempat/Tgl Lahir": "KOTA, PULAU KARANGAN, 01-01-1990",
                "Jenis Kelamin": "LAKI-LAKI",
                "Alamat": CARD["alamat.name"],
                "RT/RW": "003/004",
                "Kel/Desa": CARD["alamat.kel_desa"],
                "Kecamatan": CARD["alamat.kecamatan"],
                "gol_darah": "O",
            }
        )
    )

    assert reading.values["tempat_lahir"] == "KOTA, PULAU KARANGAN"
    assert reading.values["tgl_lahir"] == "01-01-1990"
    assert reading.values["alamat.rt_rw"] == "003/004"
    assert reading.values["alamat.kel_desa"] == CARD["alamat.kel_desa"]
    assert reading.values["nik"] == CARD["nik"]
    assert codes(reading) == {"other_key"}


def test_separate_rt_and_rw_are_joined():
    reading = parse_answer('{"nik": "1", "alamat": {"nama": "JL. X", "rt": "003", "rw": "004"}}')

    assert reading.values["alamat.name"] == "JL. X"
    assert reading.values["alamat.rt_rw"] == "003/004"


def test_the_contracts_own_key_wins_over_another_spelling():
    reading = parse_answer('{"tanggal_lahir": "02-02-1992", "tgl_lahir": "01-01-1990", "nik": "1"}')

    assert reading.values["tgl_lahir"] == "01-01-1990"
    assert "conflicting_values" in codes(reading, "tgl_lahir")


def test_of_two_answers_the_last_full_one_counts_and_the_difference_is_flagged():
    draft = CARD_JSON.replace("SPECIMENTO", "SPECIMENTA")

    assert parse_answer(f"Draft: {draft}\nFinal: {CARD_JSON}").values == CARD
    assert codes(parse_answer(f"Draft: {draft}\nFinal: {CARD_JSON}")) == {"several_answers"}
    assert parse_answer(f"{CARD_JSON}\n{CARD_JSON}").problems == ()
    assert parse_answer(f'{CARD_JSON} Note: {{"nik": "unclear"}}').values == CARD


def test_nothing_of_the_prompts_example_gets_through():
    reading = parse_answer(EXAMPLE_JSON)

    assert reading.values == empty_values()
    assert codes(reading) == {"example_leak"}


def test_one_leaked_value_goes_and_what_merely_is_common_stays():
    leaked = {**CARD, "nama": EXAMPLE["nama"].lower(), "agama": EXAMPLE["agama"]}
    reading = parse_answer(json.dumps(as_contract(leaked)))

    assert reading.values == {**CARD, "nama": "", "agama": EXAMPLE["agama"]}
    assert codes(reading) == {"example_leak"}


@pytest.mark.parametrize(
    "answer",
    [
        '{"nik": ' * 3000,
        '{"a": [' * 3000,
        "[" * 5000 + "{" * 5000,
        '{"nik": "' + "1" * 2_000_000,
        '{"nik": ' + "1" * 20_000 + "}",
        '{"nama": "' + "\n" * 20_000,
        "{" * MAX_ANSWER_CHARS,
        '{"' * MAX_ANSWER_CHARS,
        '{"nik": "\\ud83d", "nama": "\\ud83d\\ude00", "agama": "\\uZZZZ"',
        "\\" * 1000 + '{"nik": "\\',
        '{"nik"}' * 1000,
        "{:,}" * 1000,
        '{"alamat": [{"name": {}}], "nik": {}}',
    ],
)
def test_no_answer_is_too_odd_to_be_survived(answer):
    reading = parse_answer(answer)

    assert set(reading.values) == {field.path for field in FIELDS}
    for value in reading.values.values():
        assert isinstance(value, str) and len(value) <= MAX_VALUE_CHARS
        value.encode("utf-8")


def test_a_cut_off_value_is_never_taken_for_a_whole_one():
    value, _, closed = lenient_json.read_object('{"a": "whole", "b": "ha', 0)

    assert value == {"a": "whole", "b": lenient_json.CUT}
    assert not closed


def test_an_answer_is_kept_but_for_what_no_database_stores():
    assert storable('{"nik":\n\t"1\x00"}\ud800') == '{"nik":\n\t"1"}?'
