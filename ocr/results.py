"""The page of one reading: its values beside the picture, to be corrected, confirmed and sent for review."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.models import User
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from ocr.access import is_own, logged_in, own_or_404, sees_values, visible_or_404
from ocr.audit.viewing import note_view
from ocr.extraction import complete_extraction
from ocr.history import KtpChange
from ocr.models import KtpExtraction
from ocr.reading.judging import judge_again
from ocr.reading.parsing import clean
from ocr.reading.problems import Problem, from_dict
from ocr.reading.schema import FIELD_BY_PATH, FIELDS, MAX_VALUE_CHARS
from ocr.refusals import FlagsOpen, NotOpen, Stale
from ocr.reviewing import MAY_APPROVE_OWN
from ocr.rows import Reading, field_rows, masked_rows, queue_places, read_before

#: separator in the form field name of a confirmation
SEPARATOR = "|"
#: earlier readings of the same NIK that the page links to
EARLIER_SHOWN = 3
#: after a card was sent, the next one is opened; cards older than this are not opened automatically
WORKING_HOURS = 12


@logged_in
def result(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """The reading; a POST saves what its clerk has corrected and confirmed, and may send it for review."""
    if request.method == "POST":
        return _save(request, own_or_404(request, pk))
    if request.method not in ("GET", "HEAD"):
        return HttpResponseNotAllowed(["GET", "HEAD", "POST"])
    extraction = visible_or_404(request, pk)
    if extraction.state == extraction.State.READING:
        extraction = complete_extraction(pk)
    return _page(request, extraction)


@logged_in
@require_POST
def check(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """For scripts: the problems of values that are not saved yet, as HTML to show under each field."""
    extraction = own_or_404(request, pk)
    values = _values(request, extraction)
    rows = field_rows(extraction, values, _judged(extraction, values))
    context = {"may_change": extraction.is_with_clerk}
    notes = {
        row.field.column: {
            "html": render_to_string("ocr/notes.html", {**context, "row": row}, request),
            "worst": row.worst,
        }
        for row in rows
    }
    return JsonResponse({"fields": notes})


def _save(request: HttpRequest, extraction: KtpExtraction) -> HttpResponse:
    user = cast("User", request.user)
    typed = _values(request, extraction)
    try:
        version = int(request.POST.get("version", ""))
    except ValueError:
        version = -1
    action = request.POST.get("action")
    action = action if action in ("send", "approve") else "save"
    try:
        with transaction.atomic():
            extraction.correct(user, typed, version)
            for name in request.POST.getlist("confirm"):
                path, __, code = name.partition(SEPARATOR)
                extraction.confirm(user, path or None, code, extraction.version)
        if action == "send":
            extraction.send_for_review(user, extraction.version)
        elif action == "approve":
            extraction.approve_unreviewed(user, extraction.version)
    except Stale as stale:
        return _page(request, extraction, typed=_merged(typed, extraction, stale), changes=stale.changes, status=409)
    except FlagsOpen as refusal:
        return _page(request, extraction, flags=refusal.flags, status=400)
    except NotOpen:
        messages.warning(request, _("This reading can no longer be changed here."))
        return redirect("ocr:result", pk=extraction.pk)
    if action == "save":
        messages.success(request, _("Saved."))
        return redirect("ocr:result", pk=extraction.pk)
    is_sent = extraction.review == extraction.Review.NEEDS_REVIEW
    messages.success(request, _("The card was sent for review.") if is_sent else _("The card is approved."))
    following = _next_with_clerk(user)
    if following is None:
        return redirect("ocr:upload")
    messages.info(request, _("This is the next of your cards."))
    return redirect("ocr:result", pk=following.pk)


def _next_with_clerk(user: User) -> KtpExtraction | None:
    """The one of the user's cards of the last hours that has waited longest to be checked."""
    since = timezone.now() - datetime.timedelta(hours=WORKING_HOURS)
    rows = KtpExtraction.objects.read().needing_review().filter(uploaded_by=user, submitted_at=None)
    recent = rows.filter(created_at__gt=since).order_by("created_at")
    return next((found for found in recent if found.is_readable), None)


def _page(
    request: HttpRequest,
    extraction: KtpExtraction,
    *,
    typed: dict[str, str] | None = None,
    changes: Sequence[KtpChange] = (),
    flags: Sequence[Problem] = (),
    status: int = 200,
) -> HttpResponse:
    """``typed`` are values that were not saved, because ``changes`` came first; ``flags`` those that are open."""
    user = cast("User", request.user)
    note_view(request, extraction)
    may_change = is_own(extraction, user)
    reading = Reading(
        extraction,
        may_change=may_change,
        seen_before=_seen_before(extraction, user),
        place=sum(queue_places([extraction]).values()),
    )
    values = typed or extraction.values
    problems = _judged(extraction, values) if typed else extraction.problem_list
    is_masked = not sees_values(extraction, user)
    rows = masked_rows(extraction) if is_masked else field_rows(extraction, values, problems)
    whole = [problem for problem in problems if problem.field is None]
    context: dict[str, Any] = {
        "reading": reading,
        "extraction": extraction,
        "rows": rows,
        "whole_problems": [(problem, extraction.is_confirmed(problem)) for problem in whole],
        "earlier": KtpExtraction.objects.visible_to(user).read_before(extraction)[:EARLIER_SHOWN]
        if not is_masked
        else (),
        "may_edit": may_change and extraction.is_with_clerk and extraction.is_readable,
        "may_approve": may_change and user.has_perm(MAY_APPROVE_OWN) and not extraction.flags,
        "may_see_image": KtpExtraction.objects.images_visible_to(user)
        .filter(pk=extraction.pk, image__isnull=False)
        .exists(),
        "changes": [_Told(change, values) for change in changes],
        "flags_open": _flags_open(flags),
        "waits": [row for row in rows if row.is_open],
        "reject_note": _reject_note(extraction) if reading.outcome == "rejected" else "",
    }
    return render(request, "ocr/result.html", context, status=status)


def _merged(typed: dict[str, str], extraction: KtpExtraction, stale: Stale) -> dict[str, str]:
    """What was typed; if that is the value from before the changes, the value now."""
    before: dict[str, str] = {}
    for change in stale.changes:
        if change.kind == KtpChange.Kind.CORRECTED:
            before.setdefault(change.field, change.old)
    now = extraction.values
    return {path: now[path] if before.get(path) == value else value for path, value in typed.items()}


def _reject_note(extraction: KtpExtraction) -> str:
    """The reviewer's note to the reason."""
    decided = extraction.history.filter(kind=KtpChange.Kind.REJECTED).last()
    return decided.note if decided is not None else ""


class _Told:
    """A change that the clerk has not seen, and what the clerk has typed in its place."""

    def __init__(self, change: KtpChange, typed: dict[str, str]) -> None:
        self.change = change
        self.field = FIELD_BY_PATH.get(change.field)
        self.typed = typed.get(change.field, "")

    @property
    def differs(self) -> bool:
        return self.change.kind == KtpChange.Kind.CORRECTED and self.typed != self.change.new


def _flags_open(flags: Sequence[Problem]) -> str:
    if not flags:
        return ""
    count = len(flags)
    return ngettext(
        "%(count)d doubt is open. Correct the value, or tick “As printed” if the card says so.",
        "%(count)d doubts are open. Correct each value, or tick “As printed” if the card says so.",
        count,
    ) % {"count": count}


def _seen_before(extraction: KtpExtraction, user: User) -> KtpExtraction | None:
    image = getattr(extraction, "image", None)
    return read_before([image.sha256], user, besides=extraction) if image is not None else None


def _values(request: HttpRequest, extraction: KtpExtraction) -> dict[str, str]:
    """The values of the form; those that it does not have as they are stored."""
    stored = extraction.values
    return {field.path: clean(request.POST.get(field.column, stored[field.path]))[:MAX_VALUE_CHARS] for field in FIELDS}


def _judged(extraction: KtpExtraction, values: dict[str, str]) -> list[Problem]:
    return judge_again(
        values,
        values_read=extraction.fields_read,
        problems_read=[from_dict(stored) for stored in extraction.problems_read],
    )
