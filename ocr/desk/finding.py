"""Find readings by NIK or name. No address, log or log-in session contains the search term.

The term comes in the body of a POST. Only the ids of the readings found are stored, in the reviewer's log-in session
under a random word. The word is the filter in the address of the list and of the desk.
"""

from __future__ import annotations

import datetime
import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.views.main import PAGE_VAR
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters

from ocr.audit.recording import Action, Actor, record
from ocr.desk.rights import Rights, user_of
from ocr.lookup import normalised_nik
from ocr.models import KtpExtraction, KtpExtractionQuerySet
from ocr.reading import problem_texts
from ocr.reading.problems import Problem
from ocr.reading.schema import MAX_VALUE_CHARS
from ocr.review_queue import QueueFilters
from sessions_app.encryption.keyring import DataKeyMissing
from sessions_app.models import ChatSession

#: query parameter of the filter
FOUND = "found"
#: maximum readings that one search stores, the latest ones
MOST_FOUND = 500
#: maximum searches in one log-in session
MOST_SEARCHES = 3
#: maximum ids in one line of the audit log
MOST_RECORDED = 50
QUERY_MAX_CHARS = 1000
_KEY = "ktp_found"

By = Literal["nik", "name", "id"]


class FindForm(forms.Form):
    """The search form. ``query`` holds the filters of the page that it was sent from; they are kept."""

    term = forms.CharField(max_length=MAX_VALUE_CHARS, required=False)
    day = forms.DateField(required=False)
    query = forms.CharField(max_length=QUERY_MAX_CHARS, required=False)


@dataclass(frozen=True, slots=True)
class Found:
    """An earlier search of this log-in session."""

    word: str
    by: By
    ids: Sequence[uuid.UUID]
    #: there were more than ``MOST_FOUND``
    is_cut: bool
    at: datetime.datetime


@sensitive_post_parameters("term")
def find(request: HttpRequest) -> HttpResponse:
    """POST: search for ``term`` and redirect to the list or the desk with the result. Needs the right to view."""
    rights = Rights.of(request)
    if not rights.view:
        raise PermissionDenied
    form = FindForm(request.POST)
    to_desk = "desk" in request.POST and rights.review
    address = reverse("admin:ktp_review" if to_desk else "admin:ocr_ktpextraction_changelist")
    if not form.is_valid() or not (form.cleaned_data["term"] or form.cleaned_data["day"]):
        messages.warning(request, _("Type a full NIK or a whole name, or choose a day."))
        return HttpResponseRedirect(address)
    query = QueryDict(form.cleaned_data["query"], mutable=True)
    for name in (FOUND, PAGE_VAR, "day"):
        query.pop(name, None)
    if day := form.cleaned_data["day"]:
        query["day"] = day.isoformat()
    try:
        if term := form.cleaned_data["term"]:
            query[FOUND] = _search(request, term)
    except DataKeyMissing:
        messages.error(request, _("The server lacks the key of stored cards (DATA_KEYS), so they cannot be searched."))
    return HttpResponseRedirect(f"{address}?{query.urlencode()}" if query else address)


def _search(request: HttpRequest, term: str) -> str:
    """Search for the term, store the result and record the search. Returns the word under which it is stored."""
    by, rows = _matching(KtpExtraction.objects.visible_to(user_of(request)), term.strip())
    with transaction.atomic():
        ids = list(rows.order_by("-created_at").values_list("pk", flat=True)[: MOST_FOUND + 1])
        is_cut = len(ids) > MOST_FOUND
        facts = {
            "by": by,
            "count": min(len(ids), MOST_FOUND),
            "more": is_cut,
            "cards": [str(pk) for pk in ids[:MOST_RECORDED]],
        }
        record(Action.SEARCHED, actor=Actor.of_request(request), facts=facts)
    return _keep(request, by, ids[:MOST_FOUND], is_cut)


def _matching(rows: KtpExtractionQuerySet, term: str) -> tuple[By, KtpExtractionQuerySet]:
    try:
        return "id", rows.filter(pk=uuid.UUID(term))
    except ValueError:
        pass
    if ChatSession.objects.filter(pk=term, origin="ocr").exists():
        return "id", rows.filter(session=term)
    if normalised_nik(term) and not any(letter.isalpha() for letter in term):
        return "nik", rows.with_nik(term)
    return "name", rows.with_name(term)


def _keep(request: HttpRequest, by: By, ids: Sequence[uuid.UUID], is_cut: bool) -> str:
    word = secrets.token_urlsafe(8)
    kept: dict[str, Any] = request.session.get(_KEY, {})
    oldest_first = sorted(kept, key=lambda one: kept[one]["at"])
    for old in oldest_first[: len(kept) - MOST_SEARCHES + 1] if len(kept) >= MOST_SEARCHES else ():
        del kept[old]
    kept[word] = {"by": by, "ids": [pk.hex for pk in ids], "cut": is_cut, "at": timezone.now().timestamp()}
    request.session[_KEY] = kept
    return word


def found_by(request: HttpRequest) -> Found | None:
    """The search that the address of this request names; None without one, or if it is not stored any more."""
    word = request.GET.get(FOUND, "")
    kept = request.session.get(_KEY, {}).get(word)
    if kept is None:
        return None
    at = datetime.datetime.fromtimestamp(kept["at"], datetime.UTC)
    return Found(word, kept["by"], [uuid.UUID(pk) for pk in kept["ids"]], kept["cut"], at)


def without_lost_search(request: HttpRequest) -> HttpResponse | None:
    """Redirect to the page without the search if it is not stored any more, with a message about the lost filter."""
    if FOUND not in request.GET or found_by(request) is not None:
        return None
    messages.warning(request, _("This search has expired. Search again."))
    query = request.GET.copy()
    del query[FOUND]
    return HttpResponseRedirect(f"{request.path}?{query.urlencode()}" if query else request.path)


def find_context(request: HttpRequest) -> dict[str, Any]:
    """The template context of a page with the form."""
    return {"found": found_by(request), "most_found": MOST_FOUND, "find_max_chars": MAX_VALUE_CHARS}


class FoundFilter(admin.SimpleListFilter):
    """The filter in the admin's list. Its only option is the current search."""

    title = gettext_lazy("Search")
    parameter_name = FOUND

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        self._found = found_by(request)
        return [(self._found.word, _("What was found"))] if self._found is not None else []

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.filter(pk__in=self._found.ids) if self._found is not None else queryset


class FlagFilter(admin.SimpleListFilter):
    """Filter readings by one kind of flag, answered or not."""

    title = gettext_lazy("flag")
    parameter_name = "flag"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        return [(code, Problem(None, code).sentence) for code in problem_texts.TEXTS]

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        code = self.value()
        return queryset.matching(QueueFilters(flag=code)) if code in problem_texts.TEXTS else queryset


class DayFilter(admin.SimpleListFilter):
    """Filter readings by the day of the upload, which is entered in the form beside the list."""

    title = gettext_lazy("day")
    parameter_name = "day"

    def lookups(self, request: HttpRequest, model_admin: admin.ModelAdmin[Any]) -> list[tuple[str, str]]:
        self._day = _date(request.GET.get(self.parameter_name, ""))
        return [(self._day.isoformat(), date_format(self._day, "DATE_FORMAT"))] if self._day is not None else []

    def queryset(self, request: HttpRequest, queryset: Any) -> Any:
        return queryset.matching(QueueFilters(day=self._day))


def _date(text: str) -> datetime.date | None:
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        return None
