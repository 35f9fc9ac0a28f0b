"""Compare a reader's answer with the printed values."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from ocr.evaluation.labelled import LabelledPicture
from ocr.reading.parsing import UNREADABLE_CODES
from ocr.reading.problems import FLAGGING, Problem
from ocr.reading.schema import FIELDS, empty_values


@dataclass(frozen=True, slots=True)
class ReaderAnswer:
    """One reading, or the error."""

    #: flat, every path of ``FIELDS``
    values: dict[str, str]
    problems: tuple[Problem, ...]
    #: seconds from the bytes of the picture to the reading
    seconds: float
    #: why the reader did not answer; "" when it did
    error: str = ""

    @property
    def has_reading(self) -> bool:
        """False if the reader failed or the model's answer could not be parsed as a reading."""
        return not self.error and not any(problem.code in UNREADABLE_CODES for problem in self.problems)

    @property
    def flagged(self) -> set[str]:
        """The fields that a person should check. A problem of severity "info" does not count."""
        return {problem.field for problem in self.problems if problem.field and problem.severity in FLAGGING}


def failed_answer(error: str, *, seconds: float) -> ReaderAnswer:
    """An answer without a reading, because of ``error``."""
    return ReaderAnswer(empty_values(), (), seconds, error)


@dataclass(frozen=True, slots=True)
class Result:
    """One specimen with its answer."""

    specimen: LabelledPicture
    answer: ReaderAnswer

    @property
    def wrong(self) -> list[str]:
        """Fields that differ from the printed values; without a reading all fields, even empty ones."""
        return [field.path for field in FIELDS if not (self.answer.has_reading and self._is_right(field.path))]

    @property
    def wrong_and_unflagged(self) -> list[str]:
        """Fields with a wrong value and without a flag."""
        flagged = self.answer.flagged
        return [path for path in self.wrong if self.answer.values[path] and path not in flagged]

    @property
    def right_and_flagged(self) -> list[str]:
        """Fields that are as printed and have a flag."""
        return sorted(self.answer.flagged.difference(self.wrong))

    @property
    def invented(self) -> list[str]:
        """Hidden fields that were filled in."""
        return [field.path for field in FIELDS if field.path in self.specimen.hidden and self.answer.values[field.path]]

    @property
    def is_rejection(self) -> bool:
        """Whether the answer is readable and empty, which is right for a picture of something else."""
        return self.answer.has_reading and not any(self.answer.values.values())

    def _is_right(self, path: str) -> bool:
        return normalise(self.answer.values[path]) == normalise(self.specimen.values[path])


def normalise(value: str) -> str:
    """A normal form that is equal for values that look the same in print: NFKC, capitals, single blanks."""
    return " ".join(unicodedata.normalize("NFKC", value).upper().split())
