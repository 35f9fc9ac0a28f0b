"""What may be wrong with a reading. A problem is a flag for a person: it never changes or rejects a value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from ocr import problem_texts

#: error: the value cannot be right; warning: a person should look; info: worth knowing, nothing to do
Severity = Literal["error", "warning", "info"]

#: severities that send a reading to a person before it may be approved in bulk
FLAGGING: frozenset[Severity] = frozenset({"error", "warning"})


@dataclass(frozen=True, slots=True)
class Problem:
    """One flag, on one field or (``field`` None) on the reading as a whole."""

    #: a path of ``ocr.schema.FIELDS``, or None
    field: str | None
    #: stable name, a key of ``ocr.problem_texts.TEXTS``
    code: str
    severity: Severity = "warning"

    @property
    def text(self) -> problem_texts.Text:
        """What the code says, in both languages."""
        return problem_texts.text_of(self.code)

    def as_dict(self) -> dict[str, Any]:
        """As it is stored and sent: ``message`` in English, ``pesan`` in Indonesian."""
        return {
            "field": self.field,
            "code": self.code,
            "severity": self.severity,
            "message": self.text.en,
            "pesan": self.text.id,
        }


def from_dict(stored: Mapping[str, Any]) -> Problem:
    """The problem that ``as_dict`` stored."""
    return Problem(stored["field"], stored["code"], stored["severity"])


def is_flagged(problems: Iterable[Problem]) -> bool:
    """Whether a person should look before the reading is used."""
    return any(problem.severity in FLAGGING for problem in problems)
