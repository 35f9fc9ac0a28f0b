"""The receipt of an erasure: what was erased, when, why and by whom. Tombstones, which are never erased, verify it.

It contains ids and counts and no card data. It is signed with ``SECRET_KEY``; the fallback keys verify it too.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core import signing
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from ocr.erasing import Erasure
from ocr.models import KtpExtraction, KtpSession
from ocr.tombstones import Tombstone, Why

#: maximum size of an uploaded receipt
MAX_RECEIPT_BYTES = 2 * 1024 * 1024
_signer = signing.Signer(salt="ocr.receipts")


class NotAReceipt(ValueError):
    """The text is not a receipt of this server."""


def receipt_of(erasure: Erasure) -> dict[str, Any]:
    """The signed receipt, for whoever asked for the erasure."""
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
    """The receipt as text, in the language of the page."""
    lines = [
        _("Receipt of an erasure"),
        "",
        f"{_('Number')}: {receipt['receipt']}",
        f"{_('Time')}: {receipt['at']}",
        f"{_('By')}: {receipt['by']}",
        f"{_('Reason')}: {reason_of(receipt)}",
        f"{_('Reference')}: {receipt['reference'] or '–'}",
        "",
        _("Erased readings:"),
        *(f"  {pk}" for pk in receipt["readings"]),
        "",
        _("Erased rows, by table:"),
        *(f"  {name}: {count}" for name, count in rows_of(receipt)),
        "",
        f"{_('Signature')}: {receipt['signature']}",
    ]
    return "\n".join(lines) + "\n"


def reason_of(receipt: Mapping[str, Any]) -> str:
    """In words, or as the receipt has it where this release does not know it."""
    why = receipt["why"]
    return str(Why(why).label) if why in Why else str(why)


def rows_of(receipt: Mapping[str, Any]) -> list[tuple[str, int]]:
    """How many rows of which table went, by its name in words where this release has it."""
    found = []
    for label, count in receipt["rows"].items():
        try:
            name = f"{apps.get_model(label)._meta.verbose_name} ({label})"
        except (LookupError, ValueError):
            name = str(label)
        found.append((name, count))
    return found


def read_receipt(text: str | bytes) -> dict[str, Any]:
    """Parse the receipt's JSON. Raises ``NotAReceipt``, also if this server did not sign it."""
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
        raise NotAReceipt(
            _("The signature does not match: the receipt was changed, or another server signed it.")
        ) from exc
    return dict(receipt)


def verify(receipt: Mapping[str, Any]) -> list[str]:
    """Sentences about what no longer matches the receipt; empty if every reading is gone and has its tombstone."""
    pks = [uuid.UUID(pk) for pk in receipt["readings"]]
    stones = Tombstone.objects.in_bulk(pks)
    found = []
    for pk in pks:
        stone = stones.get(pk)
        if stone is None:
            found.append(_("Reading %(id)s has no tombstone.") % {"id": pk})
        elif not _agrees(stone, receipt):
            found.append(_("The tombstone of reading %(id)s is about another erasure.") % {"id": pk})
    still = {
        *KtpExtraction.objects.filter(pk__in=pks).values_list("pk", flat=True),
        *KtpSession.objects.filter(extraction__in=pks).values_list("extraction_id", flat=True),
    }
    return found + [_("Reading %(id)s still exists.") % {"id": pk} for pk in sorted(still)]


def _agrees(stone: Tombstone, receipt: Mapping[str, Any]) -> bool:
    began = parse_datetime(receipt["at"])
    if began is not None and stone.at < began:
        # The reading was erased, restored from a backup, and erased again.
        return True
    said = (receipt["receipt"], receipt["why"], receipt["by"], receipt["reference"])
    return (str(stone.receipt), stone.why, stone.by, stone.reference) == said


def _canonical(said: Mapping[str, Any]) -> str:
    return json.dumps(said, sort_keys=True, separators=(",", ":"))
