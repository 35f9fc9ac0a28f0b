"""The auditor's pages: find a person, see what is held, export, freeze, erase with a receipt.

Each step needs its own permission and is a line in the audit log. Addresses contain no personal data, so logs,
bookmarks and referrers do not either.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from typing import IO, Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.template.response import TemplateResponse
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from ocr.audit.recording import Action, Actor, record, record_each
from ocr.audit.viewing import note_list
from ocr.desk.rights import MAY_FREEZE, user_of
from ocr.erasing import erase
from ocr.freezing import Frozen, freeze, unfreeze
from ocr.models import KtpExtraction
from ocr.persons import export, receipts
from ocr.persons.finding import NotANik, find_by_ids, find_by_name, find_by_nik
from ocr.persons.forms import MAX_READINGS, ChosenForm, EraseForm, ReceiptForm, SearchForm
from ocr.refusals import Erased
from sessions_app.encryption.keyring import DataKeyMissing

MAY_FIND, MAY_EXPORT = "ocr.find_person_ktp", "ocr.export_person_ktp"
MAY_ERASE = "ocr.erase_ktp"

#: a larger export is buffered on the disk, in a file without a name
SPOOLED_BYTES = 1024 * 1024
PIECE_BYTES = 64 * 1024


def person(request: HttpRequest) -> HttpResponse:
    """The search. A POST shows what is held about a person, or the given readings of an earlier page."""
    _require(request, MAY_FIND)
    if request.method != "POST":
        return _page(request, "search", form=SearchForm())
    if "shown" in request.POST:
        return _held_again(request, ChosenForm(request.POST))
    form = SearchForm(request.POST)
    if not form.is_valid():
        return _page(request, "search", status=400, form=form)
    nik, name = form.cleaned_data["nik"], form.cleaned_data["name"]
    try:
        found = list((find_by_nik(nik) if nik else find_by_name(name))[: MAX_READINGS + 1])
    except NotANik as exc:
        form.add_error("nik", _("A NIK has 16 digits; this has %(count)d.") % {"count": exc.digits})
        return _page(request, "search", status=400, form=form)
    except DataKeyMissing:
        form.add_error(None, _("Readings cannot be searched, because the server has no DATA_KEYS. Ask its operator."))
        return _page(request, "search", status=503, form=form)
    reference = form.cleaned_data["reference"]
    facts = {"by": "nik" if nik else "name", "count": len(found), "cards": [str(card.pk) for card in found]}
    record(Action.SEARCHED, actor=Actor.of_request(request), purpose=reference, facts=facts)
    shown = found[:MAX_READINGS]
    note_list(request, shown, where="person")
    return _held(request, shown, reference, is_more=len(found) > MAX_READINGS)


def export_chosen(request: HttpRequest) -> HttpResponseBase:
    """POST: the ticked readings as a file."""
    _require(request, MAY_FIND, MAY_EXPORT)
    form = ChosenForm(request.POST)
    kind = request.POST.get("format", "")
    if not form.is_valid() or kind not in export.FORMATS:
        return _refused(request, form)
    chosen = KtpExtraction.objects.filter(pk__in=form.chosen).select_related("image").order_by("-created_at")
    written: list[uuid.UUID] = []

    def noted() -> Iterator[KtpExtraction]:
        for card in chosen.iterator(1):
            yield card
            written.append(card.pk)

    # The file has no name on the disk, so it disappears with the response. No transaction is open meanwhile.
    file = tempfile.SpooledTemporaryFile(SPOOLED_BYTES)  # noqa: SIM115  (the response closes it)
    write = export.write_json if kind == "json" else export.write_zip
    write(noted(), file)
    record_each(
        Action.EXPORTED,
        written,
        actor=Actor.of_request(request),
        purpose=form.cleaned_data["reference"],
        facts={"format": kind, "where": "person"},
    )
    headers = {**_download(export.file_name(kind)), "Content-Length": str(file.tell())}
    return StreamingHttpResponse(_pieces(file), content_type=export.FORMATS[kind][1], headers=headers)


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    with file:
        await asyncio.to_thread(file.seek, 0)
        while piece := await asyncio.to_thread(file.read, PIECE_BYTES):
            yield piece


def hold(request: HttpRequest) -> HttpResponse:
    """POST: freeze the ticked readings, or unfreeze them, for a reason in words."""
    _require(request, MAY_FIND, MAY_FREEZE)
    form = ChosenForm(request.POST)
    if form.is_valid() and not form.cleaned_data["reason"].strip():
        form.add_error("reason", _("A reason is missing. Nothing was changed."))
    if not form.is_valid():
        return _refused(request, form)
    is_freezing = "freeze" in request.POST
    change: Callable[..., bool] = freeze if is_freezing else unfreeze
    reason, actor, user = form.cleaned_data["reason"], Actor.of_request(request), user_of(request)
    changed = 0
    for card in find_by_ids(form.chosen):
        try:
            changed += change(card, reason, by=actor, user=user)
        except Erased:
            continue
    text = (
        ngettext("%(count)d reading is frozen now.", "%(count)d readings are frozen now.", changed)
        if is_freezing
        else ngettext("%(count)d reading is unfrozen now.", "%(count)d readings are unfrozen now.", changed)
    )
    messages.success(request, text % {"count": changed})
    return _held_again(request, form)


def erase_chosen(request: HttpRequest) -> HttpResponse:
    """POST: ask for confirmation; with it, erase the ticked readings and show the receipt."""
    _require(request, MAY_FIND, MAY_ERASE)
    asked = ChosenForm(request.POST)
    if not asked.is_valid():
        return _refused(request, asked)
    cards = list(find_by_ids(asked.chosen))
    context: dict[str, Any] = {
        "cards": cards,
        "shown": asked.shown,
        "frozen": [card for card in cards if card.frozen_at],
    }
    if "confirmed" not in request.POST:
        note_list(request, cards, where="erase")
        return _page(request, "erase", form=EraseForm(request.POST, is_answered=False), **context)
    form = EraseForm(request.POST)
    if not form.is_valid():
        note_list(request, cards, where="erase")
        return _page(request, "erase", status=400, form=form, **context)
    try:
        erasure = erase(
            form.chosen,
            why=form.cleaned_data["why"],
            by=Actor.of_request(request),
            reference=form.cleaned_data["reference"],
        )
    except Frozen as frozen:
        context["frozen"] = list(find_by_ids(frozen.pks))
        note_list(request, cards, where="erase")
        return _page(request, "erase", status=409, form=form, **context)
    receipt = receipts.receipt_of(erasure)
    shown = _shown(receipt)
    return _page(request, "receipt", **shown, as_json=json.dumps(receipt), frozen=erasure.frozen)


def download_receipt(request: HttpRequest) -> HttpResponse:
    """POST: the receipt on the page, as a file. The server does not store receipts."""
    _require(request, MAY_FIND, MAY_ERASE)
    try:
        receipt = receipts.read_receipt(request.POST.get("receipt", "")[: receipts.MAX_RECEIPT_BYTES])
    except receipts.NotAReceipt:
        return _page(request, "verify", status=400, form=ReceiptForm(), refused=_("This is no receipt."))
    name = f"ktp-receipt-{receipt['receipt'][:8]}"
    if request.POST.get("format") == "text":
        return _attachment(receipts.as_text(receipt).encode(), "text/plain; charset=utf-8", f"{name}.txt")
    return _attachment(json.dumps(receipt, indent=1).encode(), "application/json", f"{name}.json")


def verify_receipt(request: HttpRequest) -> HttpResponse:
    """Verify that a receipt is genuine and that its readings are gone."""
    _require(request, MAY_FIND)
    if request.method != "POST":
        return _page(request, "verify", form=ReceiptForm())
    form = ReceiptForm(request.POST, request.FILES)
    if not form.is_valid():
        return _page(request, "verify", status=400, form=form)
    try:
        receipt = receipts.read_receipt(form.cleaned_data["file"])
    except receipts.NotAReceipt as exc:
        return _page(request, "verify", status=400, form=ReceiptForm(), refused=str(exc))
    return _page(request, "verify", form=ReceiptForm(), wrong=receipts.verify(receipt), **_shown(receipt))


def _shown(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """What the page says of the receipt, in words."""
    return {
        "receipt": receipt,
        "at": parse_datetime(receipt["at"]),
        "why": receipts.reason_of(receipt),
        "rows": receipts.rows_of(receipt),
    }


def _require(request: HttpRequest, *permissions: str) -> None:
    if not user_of(request).has_perms(permissions):
        raise PermissionDenied


def _refused(request: HttpRequest, form: ChosenForm) -> HttpResponse:
    """The page of holdings again, with the errors of the form."""
    for errors in form.errors.values():
        for error in errors:
            messages.error(request, str(error))
    return _held_again(request, form, status=400)


def _held_again(request: HttpRequest, form: ChosenForm, status: int = 200) -> HttpResponse:
    cards = list(find_by_ids(form.shown))
    note_list(request, cards, where="person")
    return _held(request, cards, form.data.get("reference", ""), form.chosen, status=status)


def _held(
    request: HttpRequest,
    cards: Sequence[KtpExtraction],
    reference: str,
    chosen: Sequence[Any] | None = None,
    *,
    is_more: bool = False,
    status: int = 200,
) -> HttpResponse:
    ticked = {card.pk for card in cards} if chosen is None else set(chosen)
    rows = [(card, card.pk in ticked) for card in cards]
    return _page(
        request, "held", status=status, rows=rows, reference=reference, is_more=is_more, max_readings=MAX_READINGS
    )


def _page(request: HttpRequest, name: str, *, status: int = 200, **context: Any) -> HttpResponse:
    titles = {
        "search": _("Find a person"),
        "held": _("What is held"),
        "erase": _("Erase readings"),
        "receipt": _("Receipt of an erasure"),
        "verify": _("Verify a receipt"),
    }
    whole = {**admin.site.each_context(request), "title": titles[name], "is_nav_sidebar_enabled": False, **context}
    return TemplateResponse(request, f"ocr/persons/{name}.html", whole, status=status)


def _attachment(content: bytes, content_type: str, name: str) -> HttpResponse:
    return HttpResponse(content, content_type=content_type, headers=_download(name))


def _download(name: str) -> dict[str, str]:
    return {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
