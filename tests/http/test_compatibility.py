"""docs/compatibility.md says what the code does."""

from __future__ import annotations

from inference.api.schemas import ChatCompletionRequest
from inference.api.unserved import served_addresses
from tests import compatibility


def test_the_page_is_what_the_code_says() -> None:
    assert compatibility.PAGE.read_text() == compatibility.render(), "out of date: run make compatibility"


def test_the_page_has_every_parameter_and_every_address() -> None:
    page = compatibility.render()
    for name in ChatCompletionRequest.model_fields:
        assert f"| `{name}` | honoured |" in page
    for address in served_addresses():
        assert f"| `{address}` | yes |" in page


def test_what_is_said_of_others_is_said_of_names_that_are_known_here() -> None:
    page = compatibility.render()
    named = compatibility.VLLM_HONOURS | compatibility.TRANSFORMERS_HONOURS | compatibility.TRANSFORMERS_IGNORES
    assert [name for name in sorted(named | compatibility.CHECKED.keys()) if name and f"| `{name}` |" not in page] == []
