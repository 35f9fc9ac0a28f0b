"""The clerk's page of one reading: values beside the picture, to correct, confirm and send for review."""

from __future__ import annotations

import datetime
import uuid
from collections.abc import Sequence
from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
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
from ocr.masking import mask
from ocr.models import KtpExtraction
from ocr.reading.judging import judge_again
from ocr.reading.parsing import clean
from ocr.reading.problems import Problem, from_dict
from ocr.reading.schema import FIELD_BY_PATH, FIELDS, MAX_VALUE_CHARS
from ocr.refusals import FlagsOpen, NotOpen, Stale
from ocr.revealing import has_hidden, is_mask, is_revealed, names_hidden, reveal
from ocr.reviewing import MAY_APPROVE_OWN
from ocr.rows import Reading, field_rows, masked_rows, queue_places, read_before
from ocr.versioned import recorded_last

#: value of the button that reveals NIK and date of birth
REVEAL = "reveal"
#: separator in the form field name of a confirmation
SEPARATOR = "|"
#: earlier readings of the same NIK that the page links to
EARLIER_SHOWN = 3
#: after a card was sent, the next one is opened automatically, unless it is older than this
WORKING_HOURS = 12


@logged_in
def result(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """The page. A POST saves the clerk's corrections and confirmations, and may send the reading for review.

    A POST of ``REVEAL`` shows NIK and date of birth.
    """
    if request.method == "POST" and request.POST.get("action") == REVEAL:
        return _reveal(request, visible_or_404(request, pk))
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
    """For scripts: the problems of unsaved values, as HTML to show under each field."""
    extraction = own_or_404(request, pk)
    values = _values(request, extraction)
    rows = field_rows(extraction, values, _judged(extraction, values), is_revealed=is_revealed(request, extraction))
    context = {"may_change": extraction.is_with_clerk}
    notes = {
        row.field.column: {
            "html": render_to_string("ocr/notes.html", {**context, "row": row}, request),
            "worst": row.worst,
        }
        for row in rows
    }
    return JsonResponse({"fields": notes})


def _reveal(request: HttpRequest, extraction: KtpExtraction) -> HttpResponse:
    """Reveal NIK and date of birth. Whatever was typed or ticked before stays in the form."""
    user = cast("User", request.user)
    if not sees_values(extraction, user):
        raise PermissionDenied
    reveal(request, extraction, where="tray")
    typed, ticked = _values(request, extraction), request.POST.getlist("confirm")
    if not is_own(extraction, user) or (typed == extraction.values and not ticked):
        return redirect("ocr:result", pk=extraction.pk)
    try:
        # Nothing to correct, but the version that the form was filled from must be current.
        extraction.correct(user, {}, _version(request))
    except Stale as stale:
        return _page(request, extraction, typed=_merged(typed, extraction, stale), changes=stale.changes, status=409)
    return _page(request, extraction, typed=typed, ticked=ticked)


def _version(request: HttpRequest) -> int:
    """The version that the form was filled from; -1, which no reading has, for anything else."""
    try:
        return int(request.POST.get("version", ""))
    except ValueError:
        return -1


def _save(request: HttpRequest, extraction: KtpExtraction) -> HttpResponse:
    user = cast("User", request.user)
    typed = _values(request, extraction)
    version = _version(request)
    action = request.POST.get("action")
    action = action if action in ("send", "approve") else "save"
    try:
        with recorded_last():
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
    """The oldest of the user's recent cards that still waits to be checked."""
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
    ticked: Sequence[str] = (),
    status: int = 200,
) -> HttpResponse:
    """Render the page.

    ``typed`` and ``ticked`` are unsaved, ``changes`` are another user's that were saved first, ``flags`` are open.
    """
    user = cast("User", request.user)
    if typed and names_hidden(path for path, value in typed.items() if value != extraction.values[path]):
        # Who typed them had revealed them, perhaps longer ago than a reveal lasts.
        reveal(request, extraction, where="tray")
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
    may_see, has_revealed = sees_values(extraction, user), is_revealed(request, extraction)
    rows = field_rows(extraction, values, problems, is_revealed=has_revealed) if may_see else masked_rows(extraction)
    whole = [problem for problem in problems if problem.field is None]
    context: dict[str, Any] = {
        "reading": reading,
        "extraction": extraction,
        "rows": rows,
        "whole_problems": [(problem, extraction.is_confirmed(problem)) for problem in whole],
        "earlier": KtpExtraction.objects.visible_to(user).read_before(extraction)[:EARLIER_SHOWN] if may_see else (),
        "may_edit": may_change and extraction.is_with_clerk and extraction.is_readable,
        "may_approve": may_change and user.has_perm(MAY_APPROVE_OWN) and not extraction.flags,
        "may_see_image": KtpExtraction.objects.images_visible_to(user)
        .filter(pk=extraction.pk, image__isnull=False)
        .exists(),
        "may_reveal": may_see and not has_revealed and has_hidden(extraction),
        "ticked": ticked,
        "changes": [_Told(change, values, is_revealed=has_revealed) for change in changes],
        "flags_open": _flags_open(flags),
        "waits": [row for row in rows if row.is_open],
        "reject_note": _reject_note(extraction) if reading.outcome == "rejected" else "",
    }
    return render(request, "ocr/result.html", context, status=status)


def _merged(typed: dict[str, str], extraction: KtpExtraction, stale: Stale) -> dict[str, str]:
    """The typed value; if it is only the value from before the changes, the current one."""
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
    """A change that the clerk has not seen, and the value that the clerk has typed instead."""

    def __init__(self, change: KtpChange, typed: dict[str, str], *, is_revealed: bool) -> None:
        self.change = change
        self.field = FIELD_BY_PATH.get(change.field)
        self.typed = typed.get(change.field, "")
        self.is_masked = self.field is not None and self.field.is_hidden and not is_revealed
        self.old, self.new = (
            mask(change.field, value) if self.is_masked else value for value in (change.old, change.new)
        )

    @property
    def differs(self) -> bool:
        # A masked value cannot have been typed: the field is only editable after a reveal.
        is_typed = self.change.kind == KtpChange.Kind.CORRECTED and not self.is_masked
        return is_typed and self.typed != self.change.new


def _flags_open(flags: Sequence[Problem]) -> str:
    if not flags:
        return ""
    count = len(flags)
    return ngettext(
        "%(count)d flag is open. Correct the value, or tick “As printed” if the card says so.",
        "%(count)d flags are open. Correct each value, or tick “As printed” if the card says so.",
        count,
    ) % {"count": count}


def _seen_before(extraction: KtpExtraction, user: User) -> KtpExtraction | None:
    image = getattr(extraction, "image", None)
    return read_before(image.lookups(), user, besides=extraction) if image is not None else None


def _values(request: HttpRequest, extraction: KtpExtraction) -> dict[str, str]:
    """The values of the form; for fields that it lacks or has masked, the stored values."""
    values = extraction.values
    for field in FIELDS:
        sent = clean(request.POST.get(field.column, values[field.path]))[:MAX_VALUE_CHARS]
        if not is_mask(field.path, sent):
            values[field.path] = sent
    return values


def _judged(extraction: KtpExtraction, values: dict[str, str]) -> list[Problem]:
    return judge_again(
        values,
        values_read=extraction.fields_read,
        problems_read=[from_dict(stored) for stored in extraction.problems_read],
    )
