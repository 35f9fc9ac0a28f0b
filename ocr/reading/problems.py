"""The problems of a reading. A problem is a flag for a person: it never changes or rejects a value."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from django.utils.translation import get_language

from ocr.reading import problem_texts, uncertain
from ocr.reading.uncertain import UncertainPlace

#: error: the value cannot be right; warning: a person should look; info: worth knowing, nothing to do
Severity = Literal["error", "warning", "info"]

#: severities that send a reading to a person before it may be approved in bulk
FLAGGING: frozenset[Severity] = frozenset({"error", "warning"})


@dataclass(frozen=True, slots=True)
class Problem:
    """One flag, on one field or (``field`` None) on the reading as a whole."""

    #: a path of ``ocr.reading.schema.FIELDS``, or None
    field: str | None
    #: stable name, a key of ``ocr.reading.problem_texts.TEXTS``
    code: str
    severity: Severity = "warning"
    #: the uncertain characters, where the model gave its probabilities
    uncertain: tuple[UncertainPlace, ...] = dataclasses.field(default=(), repr=False)

    @property
    def text(self) -> problem_texts.Text:
        """The text of the code, in both languages."""
        return problem_texts.text_of(self.code)

    @property
    def sentence(self) -> str:
        """The text of the code, in the language of the page. It contains no card data."""
        return self.text.id if get_language() == "id" else self.text.en

    @property
    def place_sentences(self) -> list[str]:
        """Sentences about the uncertain places, in the language of the page. They contain characters of the card."""
        return uncertain.sentences(self.field, self.uncertain)

    @property
    def is_flag(self) -> bool:
        """Whether a person should answer it: correct the value, or confirm it as printed."""
        return self.severity in FLAGGING

    def as_dict(self) -> dict[str, Any]:
        """The stored form: ``message`` in English, ``pesan`` in Indonesian. The API sends all but ``doubted``.

        The key ``doubted`` holds the uncertain places; it keeps the name that stored rows have.
        """
        stored: dict[str, Any] = {
            "field": self.field,
            "code": self.code,
            "severity": self.severity,
            "message": self.text.en,
            "pesan": self.text.id,
        }
        if self.uncertain:
            stored["doubted"] = [place.as_dict() for place in self.uncertain]
        return stored


def from_dict(stored: Mapping[str, Any]) -> Problem:
    """The inverse of ``as_dict``."""
    places = tuple(uncertain.from_dict(place) for place in stored.get("doubted", ()))
    return Problem(stored["field"], stored["code"], stored["severity"], places)


def is_flagged(problems: Iterable[Problem]) -> bool:
    """Whether a person should look before the reading is used."""
    return any(problem.is_flag for problem in problems)
