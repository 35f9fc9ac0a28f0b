"""Cards and readings for the tests: drawn specimens, and sessions that answer as a model would."""

from __future__ import annotations

import io
import json
from collections.abc import Callable

import pytest
from django.db import transaction
from PIL import Image, ImageDraw, ImageFont

from ocr import erasing
from ocr.audit.recording import Actor
from ocr.extraction import complete_extraction
from ocr.freezing import freeze
from ocr.models import KtpExtraction, KtpImage
from ocr.reading.schema import as_contract
from sessions_app import privacy
from sessions_app.deltas import StoredTokenLogprob
from sessions_app.store import appending, opening, transitions
from tests.ktp_card import CARD

#: given a card, that it comes under legal hold after an erasure has found that it is not
FrozenMeanwhile = Callable[[KtpExtraction], None]

CARD_JSON = json.dumps(as_contract(CARD))
FLAGGED_JSON = json.dumps(as_contract({**CARD, "nik": "3171990201900001"}))


def specimen(image_format: str = "JPEG", *, size: tuple[int, int] = (856, 540), **save_options: object) -> bytes:
    """A drawn card, signed as a specimen across it."""
    image = Image.new("RGB", size, (205, 225, 240))
    draw = ImageDraw.Draw(image)
    draw.text((20, 60), f"NIK : {CARD['nik']}\nNama : {CARD['nama']}", fill=(20, 20, 20))
    signature = ImageFont.load_default(size=size[0] / 14)
    draw.text((size[0] // 2, size[1] // 2), "SPECIMEN - BUKAN KTP", fill=(200, 0, 0), font=signature, anchor="mm")
    encoded = io.BytesIO()
    image.save(encoded, image_format, **save_options)
    return encoded.getvalue()


@pytest.fixture
def frozen_meanwhile(monkeypatch: pytest.MonkeyPatch) -> FrozenMeanwhile:
    def prepare(card: KtpExtraction) -> None:
        def freeze_first(*args, **kwargs):
            freeze(card, "Case 12", by=Actor.of_server())
            return erase_batch(*args, **kwargs)

        monkeypatch.setattr(erasing, "erase_batch", freeze_first)

    erase_batch = erasing.erase_batch
    return prepare


def reading_extraction(user=None) -> KtpExtraction:
    """An extraction whose session waits for a worker."""
    data = specimen()
    with transaction.atomic():
        session, _ = opening.open_session(request={}, request_digest="", model="tiny", origin="ocr")
        extraction = KtpExtraction.objects.create(session=session, uploaded_by=user, model="tiny")
        KtpImage.objects.create(
            extraction=extraction, content_type="image/jpeg", sha256="0" * 64, width=856, height=540, data=data
        )
    return extraction


def answer(
    session_id: str | None,
    text: str,
    *,
    reasoning: str = "",
    reason: str = "stop",
    error=None,
    status=500,
    uncertain: str = "",
) -> None:
    """Run the session as a worker would, to this end. The model was not sure of the part ``uncertain``."""
    session = transitions.claim(session_id or "", worker="test")
    assert session is not None
    pieces = [appending.Piece({"type": "reasoning", "text": reasoning})] if reasoning else []
    at = text.index(uncertain)
    logprobs: list[StoredTokenLogprob] = [
        {
            "token": letter,
            "bytes": list(letter.encode()),
            "logprob": -1.0 if at <= i < at + len(uncertain) else 0.0,
            "top": [],
        }
        for i, letter in enumerate(text)
    ]
    pieces += [
        appending.Piece({"type": "text", "text": text[part], "logprobs": logprobs[part]}, [7])
        for part in (slice(9), slice(9, None))
        if text[part]
    ]
    closing = appending.Closing(reason=reason, prompt_tokens=9, completion_tokens=2, error=error, error_status=status)
    lost = appending.append(
        [
            appending.Append(
                session.pk,
                session.attempt,
                session.next_index,
                pieces=pieces,
                closing=closing,
                is_sealed=privacy.is_sealed(session.origin),
            )
        ]
    )
    assert not lost


def read_extraction(user=None, text: str = CARD_JSON, *, uncertain: str = "") -> KtpExtraction:
    """An extraction that the model has read, not sure of the part ``uncertain`` of its answer."""
    extraction = reading_extraction(user)
    answer(extraction.session_id, text, uncertain=uncertain)
    return complete_extraction(extraction.pk)
