"""The values of a reading, their problems, and the flags that people have confirmed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import models
from django.utils.translation import gettext_lazy as _

from ocr.card_values import CardValues
from ocr.reading import problems
from ocr.reading.problems import Problem
from ocr.reading.schema import FIELDS
from sessions_app.encryption.fields import EncryptedJSONField

#: members of a problem without card data, stored in clear; the queue is filtered by the code
LEGIBLE = ("field", "code", "severity", "message", "pesan")

#: default in the database, because processes of the previous release still insert rows without the column
NO_ITEMS = models.Value([], models.JSONField())


class Flagged(CardValues):
    """The columns and methods of ``KtpExtraction`` about flags and their confirmations."""

    fields_read = EncryptedJSONField(
        default=dict, blank=True, editable=False, help_text="As read by the model; never changed."
    )
    problems_read = EncryptedJSONField(
        default=list,
        keep=LEGIBLE,
        db_default=NO_ITEMS,
        blank=True,
        editable=False,
        help_text="Problems of the values as read; never changed.",
    )
    problems = EncryptedJSONField(default=list, keep=LEGIBLE, blank=True, editable=False)
    flagged = models.BooleanField(
        _("flagged"), default=False, editable=False, help_text=_("Undecided, and a person should check a value.")
    )
    confirmed = models.JSONField(
        default=list,
        db_default=NO_ITEMS,
        blank=True,
        editable=False,
        help_text="Flags that a person has confirmed: field and code.",
    )

    class Meta:
        abstract = True

    @property
    def problem_list(self) -> list[Problem]:
        return [problems.from_dict(stored) for stored in self.problems]

    @property
    def flags(self) -> list[Problem]:
        """The problems that a person should answer, confirmed or not."""
        return [problem for problem in self.problem_list if problem.is_flag]

    @property
    def open_flags(self) -> list[Problem]:
        """The flags without an answer: the value was not corrected and the flag not confirmed."""
        return [flag for flag in self.flags if not self.is_confirmed(flag)]

    def is_confirmed(self, flag: Problem) -> bool:
        """Whether a person has confirmed that the flagged value is as printed on the card."""
        return flag_key(flag) in self.confirmed

    @property
    def corrected_fields(self) -> list[str]:
        """Paths of the fields whose value differs from the model's."""
        values = self.values
        return [field.path for field in FIELDS if values[field.path] != self.fields_read.get(field.path, "")]


def problem_columns(found: Sequence[Problem]) -> dict[str, Any]:
    """Column values that store ``found`` for an undecided reading."""
    return {"problems": [problem.as_dict() for problem in found], "flagged": problems.is_flagged(found)}


def flag_key(flag: Problem) -> dict[str, str | None]:
    """The key of a flag within its reading, as a confirmation stores it."""
    return {"field": flag.field, "code": flag.code}
