"""Find lines of the audit log, in pages, without counting: it stays fast in a log of millions of lines."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from ocr.audit.models import NAME_MAX_CHARS, Action, AuditEntry

#: lines on one page
SHOWN = 100

#: the browser's own field for a time
MOMENT = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")


class LogForm(forms.Form):
    """What to look for, from the address. Everything is optional."""

    card = forms.UUIDField(label=_("Card"), required=False)
    who = forms.CharField(
        label=_("Who"),
        required=False,
        max_length=NAME_MAX_CHARS,
        help_text=_("A user's name, or key:… for an API key, as the log shows it."),
    )
    action = forms.ChoiceField(label=_("Action"), required=False)
    address = forms.GenericIPAddressField(label=_("Address"), required=False)
    since = forms.DateTimeField(label=_("From"), required=False, widget=MOMENT)
    until = forms.DateTimeField(label=_("Until"), required=False, widget=MOMENT)
    before = forms.IntegerField(required=False, min_value=1, widget=forms.HiddenInput)

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        self.fields["action"].choices = [("", _("All")), *Action.choices]  # type: ignore[attr-defined]

    @property
    def asked(self) -> dict[str, Any]:
        """What was filled in, and is valid."""
        self.is_valid()
        return {name: value for name, value in self.cleaned_data.items() if value not in (None, "")}


@dataclass(frozen=True, slots=True)
class Page:
    """Lines, the youngest first."""

    lines: list[AuditEntry]
    #: ``before`` of the next page; None at the end
    older: int | None


def search(asked: dict[str, Any]) -> Page:
    """The lines that ``LogForm.asked`` describes."""
    rows = matching(asked)
    if before := asked.get("before"):
        rows = rows.filter(sequence__lt=before)
    lines = list(rows.order_by("-sequence")[: SHOWN + 1])
    older = lines[SHOWN - 1].sequence if len(lines) > SHOWN else None
    return Page(lines[:SHOWN], older)


def matching(asked: dict[str, Any]) -> QuerySet[AuditEntry]:
    """Times become sequence numbers, so that every combination can use an index that ends in the sequence."""
    rows = AuditEntry.objects.all()
    equal = {"card": "card", "who": "actor_name", "action": "action", "address": "address"}
    rows = rows.filter(**{column: asked[name] for name, column in equal.items() if name in asked})
    if "since" in asked:
        first = _first_at(asked["since"])
        rows = rows.filter(sequence__gte=first) if first is not None else rows.none()
    if "until" in asked and (end := _first_at(asked["until"])) is not None:
        rows = rows.filter(sequence__lt=end)
    return rows


def _first_at(time: datetime.datetime) -> int | None:
    """The first line at or after this time."""
    rows = AuditEntry.objects.filter(at__gte=time).order_by("at", "sequence")
    return rows.values_list("sequence", flat=True).first()
