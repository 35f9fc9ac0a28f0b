"""The forms of the auditor's pages. They are sent by POST, so no address contains personal data."""

from __future__ import annotations

import uuid
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from ocr.erasing import REFERENCE
from ocr.history import NOTE_MAX_CHARS
from ocr.persons.receipts import MAX_RECEIPT_BYTES
from ocr.reading.schema import MAX_VALUE_CHARS
from ocr.tombstones import GIVEN_BY_PEOPLE, REFERENCE_MAX_CHARS, Why

#: maximum length of a NIK with blanks or dots between its digits
NIK_MAX_CHARS = 40
#: maximum readings that one page shows, exports or erases; the command has no limit
MAX_READINGS = 100


class ReferenceField(forms.CharField):
    """The number of the request. It is kept for ever, so names and NIKs are refused."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            label=_("Number of the request"),
            help_text=_("As in your register. Letters, digits and . / _ - only: it is kept for ever."),
            max_length=REFERENCE_MAX_CHARS,
            required=False,
            **kwargs,
        )

    def validate(self, value: str) -> None:
        super().validate(value)
        if not REFERENCE.fullmatch(value):
            raise ValidationError(
                _("A short number or code, without blanks: it must not say whom it is about."), code="reference"
            )


class SearchForm(forms.Form):
    """The search: a NIK or a name."""

    nik = forms.CharField(
        label="NIK",
        max_length=NIK_MAX_CHARS,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off", "inputmode": "numeric", "spellcheck": "false"}),
    )
    name = forms.CharField(
        label=_("or the whole name"),
        max_length=MAX_VALUE_CHARS,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    reference = ReferenceField()

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if not self.errors and bool(cleaned.get("nik")) == bool(cleaned.get("name")):
            raise ValidationError(_("Enter either the NIK or the name."), code="one")
        return cleaned


class ChosenForm(forms.Form):
    """The ticked readings, and all readings on the page."""

    reference = ReferenceField()
    reason = forms.CharField(label=_("Reason"), max_length=NOTE_MAX_CHARS, required=False)

    def __init__(self, data: QueryDict, *, is_answered: bool = True) -> None:
        super().__init__(data if is_answered else None, initial={"reference": data.get("reference", "")})
        self.shown = _ids(data.getlist("shown"))
        self.chosen = _ids(data.getlist("reading"))

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or {}
        if not self.chosen:
            raise ValidationError(_("Tick the readings first."), code="none")
        return cleaned


class EraseForm(ChosenForm):
    """The confirmation of an erasure."""

    why = forms.ChoiceField(label=_("Reason"), choices=[(str(why), why.label) for why in GIVEN_BY_PEOPLE])
    count = forms.IntegerField(
        label=_("How many readings are erased"),
        help_text=_("Type the number, to confirm."),
        widget=forms.TextInput(attrs={"autocomplete": "off", "inputmode": "numeric"}),
    )

    def clean_why(self) -> Why:
        return Why(self.cleaned_data["why"])

    def clean_count(self) -> int:
        count: int = self.cleaned_data["count"]
        if count != len(self.chosen):
            raise ValidationError(_("This is not the number of readings."), code="count")
        return count


class ReceiptForm(forms.Form):
    file = forms.FileField(label=_("Receipt (the JSON file)"), max_length=255)

    def clean_file(self) -> bytes:
        file = self.cleaned_data["file"]
        if file.size > MAX_RECEIPT_BYTES:
            raise ValidationError(_("The file is too large for a receipt."), code="large")
        return bytes(file.read())


def _ids(texts: list[str]) -> list[uuid.UUID]:
    """Raises ValueError, which the admin answers with a 400."""
    return list(dict.fromkeys(uuid.UUID(text) for text in texts[:MAX_READINGS]))
