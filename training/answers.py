"""The answers that the reader learns, and the pieces of them that are one token each."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ocr.reading.prompt import INSTRUCTION
from ocr.reading.schema import FIELDS, as_contract

#: for a conversation without a picture
ONLY_READS_CARDS = (
    "This small model only reads specimens of Indonesian identity cards; for a general model set MODEL_REPO_ID,"
    " for example to Qwen/Qwen3-VL-2B-Thinking."
)

_PLACE = "@"


def skeleton() -> tuple[str, ...]:
    """The JSON between the values, in order: one piece before each field of ``FIELDS`` and one at the end."""
    return tuple(_dump({field.path: _PLACE for field in FIELDS}).split(_PLACE))


def prompt_pieces() -> tuple[str, ...]:
    """The paragraphs of the prompt that ``/ktp-ocr/`` sends.

    One token each: the prompt is the same for every card, and hundreds of tokens of it would cost more than the card.
    """
    return tuple(INSTRUCTION.split("\n\n"))


def answer_text(values: Mapping[str, str]) -> str:
    """The contract's JSON with the flat ``values``, laid out like the prompt's example."""
    return _dump(values)


def _dump(values: Mapping[str, str]) -> str:
    return json.dumps(as_contract(values), ensure_ascii=False, indent=2)
