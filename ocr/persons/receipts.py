"""The receipt of an erasure: what was erased, when, why and by whom. It can be verified as long as tombstones are kept.

It contains ids and counts, and nothing of a card. ``SECRET_KEY`` signs it, and its fallbacks verify it too.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core import signing
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from ocr.erasing import Erasure
from ocr.models import KtpExtraction, KtpSession
from ocr.tombstones import Tombstone

#: of an uploaded receipt
MAX_RECEIPT_BYTES = 2 * 1024 * 1024
_signer = signing.Signer(salt="ocr.receipts")


class NotAReceipt(ValueError):
    """The text is no receipt of this server."""


def receipt_of(erasure: Erasure) -> dict[str, Any]:
    """As it is given to whoever asked for the erasure."""
    said: dict[str, Any] = {
        "receipt": str(erasure.receipt),
        "at": erasure.at.isoformat(),
        "by": erasure.who,
        "why": str(erasure.why),
        "reference": erasure.reference,
        "readings": sorted(map(str, erasure.readings)),
        "rows": dict(sorted(erasure.counts.items())),
        "server": settings.VERSION,
    }
    return {**said, "signature": _signer.signature(_canonical(said))}


def as_text(receipt: Mapping[str, Any]) -> str:
    """For people, in the language of the page."""
    lines = [
        _("Receipt of an erasure"),
        "",
        f"{_('Number')}: {receipt['receipt']}",
        f"{_('Time')}: {receipt['at']}",
        f"{_('By')}: {receipt['by']}",
        f"{_('Reason')}: {receipt['why']}",
        f"{_('Reference')}: {receipt['reference'] or '–'}",
        "",
        _("Erased readings:"),
        *(f"  {pk}" for pk in receipt["readings"]),
        "",
        _("Erased rows, by table:"),
        *(f"  {label}: {count}" for label, count in receipt["rows"].items()),
        "",
        f"{_('Signature')}: {receipt['signature']}",
    ]
    return "\n".join(lines) + "\n"


def read_receipt(text: str | bytes) -> dict[str, Any]:
    """The receipt from its JSON. Raises ``NotAReceipt``, also for one that is not signed by this server."""
    try:
        receipt = json.loads(text)
        said = {name: value for name, value in receipt.items() if name != "signature"}
        for pk in (said["receipt"], *said["readings"]):
            uuid.UUID(pk)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as exc:
        raise NotAReceipt(_("This is no receipt: a receipt is the JSON file that was given at the erasure.")) from exc
    try:
        _signer.unsign(f"{_canonical(said)}{_signer.sep}{receipt['signature']}")
    except (signing.BadSignature, KeyError, TypeError) as exc:
        raise NotAReceipt(_("The receipt is not as this server signed it.")) from exc
    return dict(receipt)


def verify(receipt: Mapping[str, Any]) -> list[str]:
    """What of the receipt is not so any more, in words; empty if every reading of it is gone and has its tombstone."""
    pks = [uuid.UUID(pk) for pk in receipt["readings"]]
    stones = Tombstone.objects.in_bulk(pks)
    found = []
    for pk in pks:
        stone = stones.get(pk)
        if stone is None:
            found.append(_("Reading %(id)s has no tombstone.") % {"id": pk})
        elif not _agrees(stone, receipt):
            found.append(_("The tombstone of reading %(id)s tells of another erasure.") % {"id": pk})
    still = {
        *KtpExtraction.objects.filter(pk__in=pks).values_list("pk", flat=True),
        *KtpSession.objects.filter(extraction__in=pks).values_list("extraction_id", flat=True),
    }
    return found + [_("Reading %(id)s is there.") % {"id": pk} for pk in sorted(still)]


def _agrees(stone: Tombstone, receipt: Mapping[str, Any]) -> bool:
    began = parse_datetime(receipt["at"])
    if began is not None and stone.at < began:
        # It was erased before, came back from a backup, and was erased again.
        return True
    said = (receipt["receipt"], receipt["why"], receipt["by"], receipt["reference"])
    return (str(stone.receipt), stone.why, stone.by, stone.reference) == said


def _canonical(said: Mapping[str, Any]) -> str:
    return json.dumps(said, sort_keys=True, separators=(",", ":"))
