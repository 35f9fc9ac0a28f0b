"""Search the audit log page by page. It does not count the matches, so it stays fast with millions of lines."""

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

#: the browser's native field for a time
MOMENT = forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M")


class LogForm(forms.Form):
    """The search criteria, from the query string. All are optional."""

    card = forms.UUIDField(
        label=_("Card"),
        required=False,
        error_messages={"invalid": _("The id of a reading has 32 digits and letters; hyphens may be left out.")},
    )
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
        """The criteria that are filled in and valid."""
        self.is_valid()
        return {name: value for name, value in self.cleaned_data.items() if value not in (None, "")}


@dataclass(frozen=True, slots=True)
class Page:
    """A page of lines, newest first."""

    lines: list[AuditEntry]
    #: value of ``before`` for the next page; None on the last
    older: int | None


def search(asked: dict[str, Any]) -> Page:
    """The lines that match ``LogForm.asked``."""
    rows = matching(asked)
    if before := asked.get("before"):
        rows = rows.filter(sequence__lt=before)
    lines = list(rows.order_by("-sequence")[: SHOWN + 1])
    older = lines[SHOWN - 1].sequence if len(lines) > SHOWN else None
    return Page(lines[:SHOWN], older)


def matching(asked: dict[str, Any]) -> QuerySet[AuditEntry]:
    """Filter by the criteria. Times become sequence numbers, so every combination can use an index on the sequence."""
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
