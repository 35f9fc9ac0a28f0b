"""The form that the model's answer about a card is held to."""

from __future__ import annotations

import random

import jsonschema
import pytest
from pytest_django import Settings

from inference.engine import grammar_check
from inference.stored_request import StoredRequest
from ocr.extraction import stored_request
from ocr.reading.form import CONSTRAINT, PATTERNS, SCHEMA, WIRE_FORMAT
from ocr.reading.prompt import EXAMPLE
from ocr.reading.schema import FIELDS, as_contract, empty_values
from ocr.specimens.holder import make_holder


def is_of_the_form(values: dict[str, str]) -> bool:
    return bool(jsonschema.Draft202012Validator(SCHEMA).is_valid(as_contract(values)))


def test_the_form_can_be_enforced() -> None:
    assert grammar_check.check(CONSTRAINT) == (CONSTRAINT, "")


def test_the_form_has_the_keys_of_the_contract_in_their_order() -> None:
    contract = as_contract({})
    assert list(SCHEMA["properties"]) == SCHEMA["required"] == list(contract)
    assert list(SCHEMA["properties"]["alamat"]["properties"]) == list(contract["alamat"])


def test_every_value_may_be_empty() -> None:
    assert is_of_the_form(empty_values())
    assert is_of_the_form(EXAMPLE)
    for field in FIELDS:
        assert is_of_the_form(EXAMPLE | {field.path: ""})


@pytest.mark.parametrize("seed", range(50))
def test_what_specimens_have_printed_on_them_is_of_the_form(seed: int) -> None:
    assert is_of_the_form(make_holder(random.Random(seed)).values)


@pytest.mark.parametrize(
    ("path", "value", "fits"),
    [
        ("nik", "3171015708910042", True),
        ("nik", "317101570891004", True),  # a digit that cannot be read is not made up
        ("nik", "31710157089100421", False),
        ("nik", "3171 0157", False),
        ("tgl_lahir", "17-08-1991", True),
        ("tgl_lahir", "17-08-19", True),  # nor is a year
        ("tgl_lahir", "17-8-1991", False),
        ("tgl_lahir", "BANDUNG", False),
        ("alamat.rt_rw", "001/002", True),
        ("alamat.rt_rw", "1/2", True),
        ("alamat.rt_rw", "-/-", True),
        ("alamat.rt_rw", "-", True),
        ("alamat.rt_rw", "0037004", False),
    ],
)
def test_a_value_with_a_form_of_its_own_has_it(path: str, value: str, fits: bool) -> None:
    assert path in PATTERNS
    assert is_of_the_form(EXAMPLE | {path: value}) is fits


def test_the_model_here_is_held_to_the_form_and_an_upstream_is_asked_for_it(settings: Settings) -> None:
    here = stored_request()
    assert (here.constraint, here.wire_format) == (CONSTRAINT, None)
    settings.INFERENCE_ENGINE = "openai"
    there = stored_request()
    assert (there.constraint, there.wire_format, there.wire_format_is_optional) == (None, WIRE_FORMAT, True)
    settings.OCR_GRAMMAR = False
    plain = StoredRequest(there.messages, there.sampling)
    assert stored_request() == plain
    settings.INFERENCE_ENGINE = "local"
    assert stored_request() == plain
