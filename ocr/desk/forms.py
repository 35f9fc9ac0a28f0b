"""The form that the desk and the admin's change form send: the version seen, values, confirmations, a decision."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from typing import Any

from django import forms
from django.contrib.auth import get_user_model
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from ocr.history import NOTE_MAX_CHARS, RejectReason
from ocr.models import KtpExtraction
from ocr.reading import problem_texts
from ocr.reading.problems import Problem
from ocr.reading.schema import FIELD_BY_PATH, FIELDS, MAX_VALUE_CHARS
from ocr.revealing import is_mask
from ocr.review_queue import ANY_FLAG, NO_FLAG, QueueFilters

#: POST names of the buttons
SAVE, APPROVE, REJECT, UNCLEAR, REOPEN = "_save", "_approve", "_reject", "_unclear", "_reopen"
REVEAL = "_reveal"
ACTIONS = (REVEAL, APPROVE, REJECT, UNCLEAR, REOPEN, SAVE)


class CardForm(forms.Form):
    """All fields are optional, because values that a page does not show stay unchanged."""

    version = forms.IntegerField(min_value=0)
    reason = forms.ChoiceField(choices=(("", ""), *RejectReason.choices), required=False)
    note = forms.CharField(max_length=NOTE_MAX_CHARS, required=False)
    unclear_note = forms.CharField(max_length=NOTE_MAX_CHARS, required=False)
    reopen_reason = forms.CharField(max_length=NOTE_MAX_CHARS, required=False)

    def __init__(self, data: QueryDict) -> None:
        super().__init__(data)
        self._sent = data
        for field in FIELDS:
            self.fields[field.column] = forms.CharField(label=field.name, max_length=MAX_VALUE_CHARS, required=False)

    @property
    def values(self) -> dict[str, str]:
        """Path → value, for the fields that were sent."""
        return {path: self.cleaned_data[FIELD_BY_PATH[path].column] for path in self.typed}

    @property
    def typed(self) -> dict[str, str]:
        """Path → value, for the fields that were sent, valid or not."""
        sent = {field.path: str(self.data[field.column]) for field in FIELDS if field.column in self.data}
        return {path: value for path, value in sent.items() if not is_mask(path, value)}

    @property
    def confirmed(self) -> list[tuple[str | None, str]]:
        """Field and code of the flags that were ticked."""
        pairs = (entry.partition(":") for entry in self._sent.getlist("confirm"))
        return [(field or None, code) for field, _colon, code in pairs]

    @property
    def ticked(self) -> list[str]:
        """Like ``confirmed``, but as values of ``tick_value``."""
        return self._sent.getlist("confirm")

    @property
    def action(self) -> str:
        """The button that was pressed; ``SAVE`` for any button that is not the desk's."""
        return next((name for name in ACTIONS if name in self.data), SAVE)


def tick_value(flag: Problem) -> str:
    """The value of a flag's checkbox."""
    return f"{flag.field or ''}:{flag.code}"


API = "api"


class QueueForm(forms.Form):
    """The filters of the queue, from the query string."""

    flag = forms.ChoiceField(label=_("Flag"), required=False)
    uploader = forms.ChoiceField(label=_("Uploaded by"), required=False)
    day = forms.DateField(label=_("Uploaded on"), required=False, widget=forms.DateInput(attrs={"type": "date"}))

    def __init__(self, data: Any = None, *, found: Sequence[uuid.UUID] | None = None) -> None:
        super().__init__(data)
        self._found = found
        self.fields["flag"].choices = [  # type: ignore[attr-defined]
            ("", _("All")),
            (ANY_FLAG, _("Flagged")),
            (NO_FLAG, _("Not flagged")),
            (_("One kind of flag"), [(code, Problem(None, code).sentence) for code in problem_texts.TEXTS]),
        ]
        waiting = KtpExtraction.objects.waiting_for_review()
        uploaders = get_user_model().objects.filter(pk__in=waiting.values("uploaded_by")).order_by("username")
        self.fields["uploader"].choices = [  # type: ignore[attr-defined]
            ("", _("Everybody")),
            (API, _("The API")),
            *((str(user.pk), user.get_username()) for user in uploaders),
        ]

    @property
    def filters(self) -> QueueFilters:
        """The chosen filters; invalid ones are ignored."""
        self.is_valid()
        chosen = self.cleaned_data
        uploader = chosen.get("uploader") or None
        day: datetime.date | None = chosen.get("day")
        return QueueFilters(
            flag=chosen.get("flag", ""),
            uploader=None if uploader is None else 0 if uploader == API else int(uploader),
            day=day,
            found=self._found,
        )
