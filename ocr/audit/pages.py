"""The auditor's pages in the admin: search the log, and list what a leaked account or key has seen."""

from __future__ import annotations

import datetime
from collections.abc import AsyncIterator, Sequence
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from ocr.audit import breach
from ocr.audit.models import NAME_MAX_CHARS, Action
from ocr.audit.recording import Actor, record
from ocr.audit.searching import MOMENT, LogForm, search
from ocr.spreadsheet import csv_head, csv_lines
from sessions_app.db import in_db

#: permission of auditors
MAY_VIEW_LOG = "ocr.view_auditentry"
#: maximum cards on the page; the CSV has all of them
SHOWN = 200
#: cards per chunk of the CSV
PAGE_CARDS = 2000


class BreachForm(forms.Form):
    who = forms.CharField(
        label=gettext_lazy("Who"),
        max_length=NAME_MAX_CHARS,
        help_text=gettext_lazy("A user's name, an API key as the log shows it (key:…), or an IP address."),
    )
    since = forms.DateTimeField(label=gettext_lazy("From"), widget=MOMENT)
    until = forms.DateTimeField(label=gettext_lazy("Until"), widget=MOMENT)

    def clean(self) -> dict[str, Any] | None:
        data = super().clean() or {}
        since, until = data.get("since"), data.get("until")
        if since is not None and until is not None and since >= until:
            self.add_error("until", _("The end is not after the beginning."))
        return data


def log(request: HttpRequest) -> HttpResponse:
    """The log, newest lines first. Each view is logged too, because the log names people."""
    _check(request)
    form = LogForm(request.GET)
    asked = form.asked
    page = search(asked) if form.is_valid() else None
    record(
        Action.AUDIT_SEARCHED,
        actor=Actor.of_request(request),
        card=asked.get("card"),
        facts={"by": sorted(asked), "lines": len(page.lines) if page else 0},
    )
    query = {name: value for name, value in request.GET.items() if name != "before"}
    context = {
        **admin.site.each_context(request),
        "title": _("Audit log"),
        "form": form,
        "lines": page.lines if page else [],
        "older": urlencode({**query, "before": page.older}) if page and page.older else "",
        "is_searched": bool(asked),
        "is_paged": "before" in asked,
        "newest": urlencode(query),
        "is_nav_sidebar_enabled": False,
    }
    return TemplateResponse(request, "ocr/audit/log.html", context)


def breached(request: HttpRequest) -> HttpResponseBase:
    """What an actor saw and could have seen between two times: as a page, or as a file with ``format=csv``."""
    _check(request)
    form = BreachForm(request.GET or None)
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": _("Breach"),
        "form": form,
        "is_nav_sidebar_enabled": False,
    }
    if form.is_valid():
        since, until = form.cleaned_data["since"], form.cleaned_data["until"]
        suspect = breach.Suspect.of(form.cleaned_data["who"])
        seen = breach.seen(suspect, since, until)
        is_file = request.GET.get("format") == "csv"
        action = Action.AUDIT_EXPORTED if is_file else Action.AUDIT_SEARCHED
        record(action, actor=Actor.of_request(request), facts={"breach": True, "seen": len(seen)})
        if is_file:
            return _file(suspect, seen, until)
        cards = {card.card for card in seen if card.is_stored}
        context |= {
            "suspect": suspect,
            "seen": seen[:SHOWN],
            "seen_count": len(seen),
            "clear_count": sum(card.in_clear for card in seen),
            "permitted_count": suspect.permitted(until).count(),
            "stored_count": len(cards),
            "csv": urlencode({**request.GET.dict(), "format": "csv"}),
        }
    return TemplateResponse(request, "ocr/audit/breach.html", context)


def _file(suspect: breach.Suspect, seen: list[breach.Seen], until: datetime.datetime) -> StreamingHttpResponse:
    """A CSV of all cards. Neither its name nor its contents hold a value of a card."""
    response = StreamingHttpResponse(_pieces(suspect, seen, until), content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="breach-{timezone.now():%Y%m%d-%H%M%S}.csv"'
    response.headers["Cache-Control"] = "no-store, private"
    return response


async def _pieces(
    suspect: breach.Suspect, seen: Sequence[breach.Seen], until: datetime.datetime
) -> AsyncIterator[bytes]:
    """Yield one page at a time. It holds no database connection while the client reads."""
    yield csv_head(("card", "seen", "in_clear", "first", "last", "actions", "stored"))
    for start in range(0, len(seen), PAGE_CARDS):
        yield csv_lines(map(_row, seen[start : start + PAGE_CARDS]))
    cards, last = {card.card for card in seen}, None
    while pks := await in_db(breach.permitted_after, suspect, until, last, PAGE_CARDS):
        yield csv_lines(_row(breach.Seen(pk)) for pk in pks if pk not in cards)
        last = pks[-1]


def _row(card: breach.Seen) -> tuple[object, ...]:
    return (
        card.card,
        "yes" if card.was_seen else "could have been",
        "yes" if card.in_clear else "no",
        card.first.isoformat(timespec="seconds") if card.first else "",
        card.last.isoformat(timespec="seconds") if card.last else "",
        " ".join(f"{action}:{count}" for action, count in sorted(card.actions.items())),
        "yes" if card.is_stored else "erased",
    )


def _check(request: HttpRequest) -> None:
    if not request.user.has_perm(MAY_VIEW_LOG):
        raise PermissionDenied
