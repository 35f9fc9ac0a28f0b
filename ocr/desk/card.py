"""The desk's page of one card: its picture, values and flags, and the possible decisions."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.utils.translation import gettext as _

from ocr.audit.viewing import note_view
from ocr.desk import forms, undoing
from ocr.desk.conflicts import Conflict, find_conflict
from ocr.desk.forms import CardForm
from ocr.desk.handling import handle
from ocr.desk.presenting import entries_of, rows_of, timeline_of, whole_flags_of
from ocr.desk.queue import card_url, query_of, review_rights, to_next
from ocr.desk.rights import Rights, may_see_image, user_of
from ocr.extraction import complete_extraction
from ocr.history import RejectReason
from ocr.models import KtpExtraction
from ocr.refusals import FlagsOpen, NotOpen, NotRevealed, ReasonMissing, Refused, Stale
from ocr.revealing import has_hidden, names_hidden, reveal

#: earlier readings of the same NIK that the page links to
EARLIER_SHOWN = 3
#: buttons after which the next card is opened
DECIDED = (forms.APPROVE, forms.REJECT, forms.UNCLEAR)


def card(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """A GET claims and shows the card; a POST corrects, confirms and decides. Needs the right to review."""
    rights = review_rights(request)
    extraction = get_object_or_404(KtpExtraction, pk=pk)
    extraction.check_readable()
    if request.method == "POST":
        return answer(request, extraction, rights)
    extraction = complete_extraction(extraction.pk)
    if extraction.is_open:
        extraction.claim(user_of(request))
    return page(request, extraction, rights)


def answer(request: HttpRequest, extraction: KtpExtraction, rights: Rights) -> HttpResponse:
    """Apply the form and redirect to the next page, or show the card again with the reason for the refusal."""
    form = CardForm(request.POST)
    if not form.is_valid():
        return invalid_page(request, extraction, rights, form)
    if form.action == forms.REVEAL:
        return revealed_page(request, extraction, rights, form)
    try:
        is_changed = handle(extraction, user_of(request), rights.of_card(request, extraction), form)
    except Refused as refused:
        return refusal_page(request, extraction, rights, form, refused)
    log(request, extraction, form)
    if form.action in DECIDED:
        if extraction.review != KtpExtraction.Review.NEEDS_REVIEW:
            undoing.offer(request, extraction)
        return to_next(request)
    if is_changed:
        messages.success(request, _("Reopened.") if form.action == forms.REOPEN else _("Saved."))
    else:
        messages.info(request, _("Nothing was changed."))
    return HttpResponseRedirect(card_url(request, extraction))


def revealed_page(
    request: HttpRequest, extraction: KtpExtraction, rights: Rights, form: CardForm, *, back: str = ""
) -> HttpResponse:
    """Reveal NIK and date of birth. Redirects to ``back``, or shows the form here to keep what was typed or ticked."""
    if not rights.review:
        raise PermissionDenied
    reveal(request, extraction, where="desk")
    now = extraction.values
    typed = {path: value for path, value in form.typed.items() if value != now[path]}
    if not typed and not form.confirmed:
        return HttpResponseRedirect(back or card_url(request, extraction))
    try:
        # Nothing to correct, but the version that the form was filled from must be current.
        extraction.correct(user_of(request), {}, form.cleaned_data["version"])
    except Refused as refused:
        return refusal_page(request, extraction, rights, form, refused)
    return page(request, extraction, rights, conflict=Conflict((), typed, {}), ticked=form.ticked)


def undo(request: HttpRequest, pk: uuid.UUID) -> HttpResponse:
    """POST: undo the last decision, and open its card again."""
    rights = review_rights(request)
    extraction = get_object_or_404(KtpExtraction, pk=pk)
    extraction.check_readable()
    form = CardForm(request.POST)
    undoing.forget(request)
    if not form.is_valid():
        return invalid_page(request, extraction, rights, form)
    try:
        extraction.undo(user_of(request), form.cleaned_data["version"])
    except Stale as stale:
        return page(request, extraction, rights, conflict=find_conflict(extraction, stale.changes, {}), status=409)
    except Refused:
        return page(
            request, extraction, rights, errors=[_("It is too late to undo this. Reopen the card.")], status=409
        )
    return HttpResponseRedirect(card_url(request, extraction))


def invalid_page(request: HttpRequest, extraction: KtpExtraction, rights: Rights, form: CardForm) -> HttpResponse:
    """The page with the errors of an invalid form, and what was typed and ticked in it."""
    errors = _form_errors(form)
    return page(request, extraction, rights, conflict=_typed(form), ticked=form.ticked, errors=errors, status=400)


def refusal_page(
    request: HttpRequest, extraction: KtpExtraction, rights: Rights, form: CardForm, refused: Refused
) -> HttpResponse:
    """The page after a refusal: the card as it is now, the reason, and what the reviewer had typed.

    Ticks stay where nothing was changed. Where another has changed the card, they were for the values before.
    """
    if isinstance(refused, Stale):
        sent = form.values if rights.correct and form.action != forms.REJECT else {}
        conflict = find_conflict(extraction, refused.changes, sent)
        return page(request, extraction, rights, conflict=conflict, status=409)
    if isinstance(refused, FlagsOpen):
        # The corrections are stored, and may have raised new flags.
        return page(request, extraction, rights, is_asking=True, status=409)
    typed = _typed(form)
    errors = {
        NotOpen: _("This card cannot be changed or decided in its present state."),
        ReasonMissing: _("A reason is missing. Nothing was changed."),
        NotRevealed: _("NIK and date of birth are shown again. Compare them, then approve. Nothing was changed.")
        if names_hidden(typed.kept)  # The page reveals what it shows.
        else _("Show NIK and date of birth before you approve. Nothing was changed."),
    }
    return page(
        request,
        extraction,
        rights,
        conflict=typed,
        ticked=form.ticked,
        errors=[errors[type(refused)]],
        open_panel=form.action.removeprefix("_") if isinstance(refused, ReasonMissing) else "",
        status=409,
    )


def page(
    request: HttpRequest,
    extraction: KtpExtraction,
    rights: Rights,
    *,
    conflict: Conflict | None = None,
    errors: list[str] | None = None,
    is_asking: bool = False,
    open_panel: str = "",
    ticked: Sequence[str] = (),
    status: int = 200,
) -> HttpResponse:
    """Render the page.

    ``is_asking``: an approval was refused because flags are open. ``open_panel``: reject or reopen. ``ticked``:
    confirmations that are not stored yet.
    """
    user = user_of(request)
    if conflict and (names_hidden(conflict.kept) or names_hidden(conflict.clashes)):
        # Who sent them had revealed them, perhaps longer ago than a reveal lasts.
        reveal(request, extraction, where="desk")
    rights = rights.of_card(request, extraction)
    note_view(request, extraction, where="desk")
    waiting = KtpExtraction.objects.waiting_for_review()
    earlier = KtpExtraction.objects.visible_to(user).read_before(extraction)
    may_decide = rights.review and extraction.review == KtpExtraction.Review.NEEDS_REVIEW
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": _("Review of a card"),
        "card": extraction,
        "rights": rights,
        "rows": rows_of(extraction, rights, conflict),
        "whole_flags": whole_flags_of(extraction, rights),
        "may_see_image": may_see_image(request, extraction),
        "earlier": earlier[:EARLIER_SHOWN],
        "earlier_count": earlier.count(),
        "may_correct": rights.correct and extraction.is_open,
        "may_approve": may_decide and extraction.is_open,
        "may_reject": may_decide and extraction.state != KtpExtraction.State.READING,
        "may_reopen": rights.review and extraction.review != KtpExtraction.Review.NEEDS_REVIEW,
        "is_others": extraction.is_open and extraction.is_claimed_by_other(user),
        "timeline": timeline_of(extraction, rights),
        "is_stale": bool(conflict and conflict.changes),
        "clashes": len(conflict.clashes) if conflict else 0,
        "conflict_entries": entries_of(conflict.changes, rights) if conflict else [],
        "errors": errors or [],
        "is_asking": is_asking,
        "may_reveal": rights.review and not rights.revealed and has_hidden(extraction),
        "ticked": ticked,
        "open_panel": open_panel,
        "undo": undoing.pending(request),
        "reasons": RejectReason.choices,
        "waiting": waiting.count(),
        "flagged": waiting.flagged().count(),
        "query": query_of(request),
        "claim_minutes": settings.OCR_CLAIM_MINUTES,
        "is_nav_sidebar_enabled": False,
    }
    return TemplateResponse(request, "ocr/desk/card.html", context, status=status)


def log(request: HttpRequest, extraction: KtpExtraction, form: CardForm) -> None:
    """Write to Django's admin log who changed the card; the details are in the card's history."""
    kinds = extraction.history.order_by("-pk").values_list("kind", flat=True)
    model_admin = admin.site.get_model_admin(KtpExtraction)
    model_admin.log_change(request, extraction, kinds.first() or form.action)


def _typed(form: CardForm) -> Conflict:
    """Keep what was typed in the form."""
    return Conflict((), form.typed, {})


def _form_errors(form: CardForm) -> list[str]:
    """The errors of the whole form and of its fields, each with the field's label."""
    lines = []
    for name, errors in form.errors.items():
        label = form.fields[name].label if name in form.fields else None
        lines += [f"{label}: {error}" if label else str(error) for error in errors]
    return lines
