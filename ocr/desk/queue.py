"""The pages of the reviewers' queue: the number of waiting cards, the filters, and the next card."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext as _

from ocr.audit.viewing import note_list
from ocr.desk import finding, undoing
from ocr.desk.forms import QueueForm
from ocr.desk.rights import Rights, user_of
from ocr.models import KtpExtraction
from sessions_app.encryption import keyring

#: maximum cards on the page of the queue
SHOWN = 50


def queue(request: HttpRequest) -> HttpResponse:
    """The waiting cards, flagged ones first. Needs the right to review."""
    rights = review_rights(request)
    if (without := finding.without_lost_search(request)) is not None:
        return without
    form = _form(request)
    filters = form.filters
    waiting = KtpExtraction.objects.waiting_for_review()
    chosen = waiting.matching(filters)
    cards = chosen.in_queue_order().select_related("uploaded_by", "claimed_by").defer("raw_answer", "fields_read")
    user = user_of(request)
    shown = list(cards[:SHOWN])
    note_list(request, shown, where="queue")
    context = {
        **admin.site.each_context(request),
        **finding.find_context(request),
        "title": _("Review desk"),
        "form": form,
        "rights": rights,
        "query": query_of(request),
        "waiting": waiting.count(),
        "flagged": waiting.flagged().count(),
        "chosen": chosen.count(),
        "claimable": KtpExtraction.objects.claimable_by(user).matching(filters).count(),
        "cards": [(card, card.is_claimed_by_other(user)) for card in shown],
        "undo": undoing.pending(request),
        "is_nav_sidebar_enabled": False,
    }
    return TemplateResponse(request, "ocr/desk/queue.html", context)


def next_card(request: HttpRequest) -> HttpResponse:
    """POST: claim the next card of the chosen part of the queue, and open it."""
    review_rights(request)
    return to_next(request)


def logged_in(request: HttpRequest) -> HttpResponse:
    """An empty answer if the user may use the desk. Pages ask before they send a form, so that nothing is lost."""
    review_rights(request)
    return HttpResponse(status=204)


def to_next(request: HttpRequest) -> HttpResponseRedirect:
    """Claim the next card and redirect to it, or back to the queue if there is none."""
    filters = _form(request).filters
    card = KtpExtraction.objects.claim_next_for(user_of(request), filters)
    if card is None:
        messages.info(request, _("No card waits for you."))
        return HttpResponseRedirect(f"{reverse('admin:ktp_review')}{query_of(request)}")
    return HttpResponseRedirect(card_url(request, card))


def card_url(request: HttpRequest, card: KtpExtraction) -> str:
    """The address of the card at the desk, with the filters of this request."""
    return f"{reverse('admin:ktp_review_card', args=[card.pk])}{query_of(request)}"


def query_of(request: HttpRequest) -> str:
    """The filters of the request as a query string."""
    chosen = {name: request.GET[name] for name in ("flag", "uploader", "day", finding.FOUND) if request.GET.get(name)}
    return f"?{urlencode(chosen)}" if chosen else ""


def _form(request: HttpRequest) -> QueueForm:
    found = finding.found_by(request)
    if found is not None:
        return QueueForm(request.GET, found=found.ids)
    # The result of an expired search is unknown. It must not select all cards.
    return QueueForm(request.GET, found=() if finding.FOUND in request.GET else None)


def review_rights(request: HttpRequest) -> Rights:
    """The user's rights. Raises ``PermissionDenied`` for users who do not review, and ``DataKeyMissing``."""
    rights = Rights.of(request)
    if not rights.review:
        raise PermissionDenied
    keyring.ring()  # without a key nothing is reviewed
    return rights
