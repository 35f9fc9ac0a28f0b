"""Cards that wait at the review desk: drawn specimens with readings as a model might have given them.

Run in a server's own settings, by ``Stack.run_python``.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Mapping
from typing import Any

import django

django.setup()

from django.contrib.auth.models import Group, User  # noqa: E402
from django.db import transaction  # noqa: E402

from ocr.models import KtpExtraction, KtpImage  # noqa: E402
from ocr.reading.checks import run_checks  # noqa: E402
from ocr.reading.problems import Problem  # noqa: E402
from ocr.reading.uncertain import UncertainPlace  # noqa: E402
from ocr.specimens import make_specimen  # noqa: E402
from tests.ktp_card import CARD  # noqa: E402
from tests.live.pages import PASSWORD  # noqa: E402


def make_person(name: str, *groups: str) -> None:
    """Staff with these roles."""
    user = User.objects.create_user(name, password=PASSWORD, is_staff=True)
    user.groups.set(Group.objects.filter(name__in=groups))


def clear() -> None:
    """No card at all."""
    KtpExtraction.objects.all().delete()


def make_card(
    number: int,
    *,
    uncertain: int = 0,
    read: Mapping[str, str] | None = None,
    uploader: str = "",
    fails: bool = False,
    decided: str = "",
) -> str:
    """One card in the queue; the model was not sure of a digit and a letter, if so many are asked for. Its id.

    Or one whose reading failed, or one that was corrected and approved by somebody.
    """
    specimen = make_specimen(2026, number, "flat", width=856)
    picture = io.BytesIO()
    specimen.image.save(picture, "JPEG", quality=85)
    values = {**CARD, "nik": f"31719901019{number % 100000:05d}", **(read or {})}
    problems = [*_uncertain(values)[:uncertain], *run_checks(values)]
    user = User.objects.get(username=uploader) if uploader else None
    with transaction.atomic():
        card = KtpExtraction.objects.create(model="tiny", file_name=f"card-{number}.jpg", uploaded_by=user)
        KtpImage.objects.create(
            extraction=card,
            content_type="image/jpeg",
            sha256=hashlib.sha256(picture.getvalue()).hexdigest(),
            width=specimen.image.width,
            height=specimen.image.height,
            data=picture.getvalue(),
        )
        if fails:
            card.mark_failed("generation_failed")
        else:
            card.mark_read(values=values, raw_answer=json.dumps(values), found=problems)
    if decided:
        reviewer = User.objects.get(username=decided)
        card.claim(reviewer)
        card.correct(reviewer, {"nama": "NAMA YANG BENAR"}, card.version)
        card.approve(reviewer, card.version)
    return str(card.pk)


def _uncertain(values: Mapping[str, str]) -> list[Problem]:
    digit = values["nik"][12]
    other = "5" if digit != "5" else "8"
    return [
        Problem("nik", "uncertain", uncertain=(UncertainPlace(12, digit, 0.6, ((other, 0.3),)),)),
        Problem("nama", "uncertain", uncertain=(UncertainPlace(0, values["nama"][0], 0.7, (("5", 0.2),)),)),
    ]


def row_of(pk: str) -> Mapping[str, object]:
    """What is stored of a card, decrypted."""
    return KtpExtraction.objects.values("review", "nik", "nama", "agama", "reject_reason", "state").get(pk=pk)


def newest_name_sent() -> str:
    """The name on the card that was sent for review last."""
    return KtpExtraction.objects.exclude(submitted_at=None).latest("submitted_at").nama


def correct(pk: str, name: str, values: Mapping[str, str]) -> None:
    """Another person's correction, while a page is open."""
    card = KtpExtraction.objects.get(pk=pk)
    card.correct(User.objects.get(username=name), values, card.version)


def run(calls: list[tuple[str, list[Any], dict[str, Any]]]) -> None:
    """Call functions of this module by name, and print what they return as JSON."""
    json.dump([globals()[name](*arguments, **options) for name, arguments, options in calls], sys.stdout)
