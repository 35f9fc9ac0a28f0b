from __future__ import annotations

import datetime
import json

from ocr.masking import mask_name, mask_nik
from ocr.reading.checks import run_checks
from ocr.reading.prompt import EXAMPLE, EXAMPLE_JSON, INSTRUCTION, messages
from ocr.reading.schema import FIELDS, Alamat, KtpFields, as_contract


def test_the_example_is_a_card_that_cannot_exist_and_is_right_otherwise():
    problems = run_checks(EXAMPLE, today=datetime.date(2026, 8, 17))

    assert [problem.code for problem in problems] == ["nik_unused_district"]
    assert EXAMPLE["nik"][4:6] == "99"


def test_the_example_has_every_field_filled_and_the_contracts_shape():
    assert list(EXAMPLE) == [field.path for field in FIELDS]
    assert all(EXAMPLE.values())
    assert json.loads(EXAMPLE_JSON) == as_contract(EXAMPLE)


def test_the_contract_has_eleven_keys_in_the_cards_order():
    contract = as_contract({})

    assert list(contract) == list(KtpFields.__annotations__)
    assert list(contract["alamat"]) == list(Alamat.__annotations__)
    assert len(contract) == 11


def test_the_model_is_shown_one_image_and_then_the_instruction():
    (message,) = messages()

    assert message["role"] == "user"
    assert message["content"] == [{"type": "image"}, {"type": "text", "text": INSTRUCTION}]
    assert EXAMPLE_JSON in INSTRUCTION


def test_masked_values_cannot_be_copied():
    assert mask_nik("3171010101900001") == "317101••••••0001"
    assert mask_nik("31710101") == "31••••••"
    assert mask_nik("") == ""
    assert mask_name("SPECIMENTO UJI") == "S••••••••• U••"
    assert mask_name("") == ""
