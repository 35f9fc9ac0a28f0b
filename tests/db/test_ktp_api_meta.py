"""What the API says beside the eleven keys, and what a strict caller gets."""

from __future__ import annotations

import uuid

import pytest
from django.contrib.auth.models import User

from ocr.audit.models import AuditEntry
from ocr.models import KtpExtraction, KtpImage
from ocr.reading.schema import FIELDS
from tests.db.ktp_calls import ASYNC, complete, error_of, post
from tests.db.ktp_cards import CARD_JSON, specimen
from tests.ktp_card import CARD

pytestmark = pytest.mark.django_db(transaction=True)

STRICT = {"Prefer": "handling=strict"}


def meta_of(client, text=CARD_JSON, **how):
    location = post(client, specimen(), headers=ASYNC)["Location"]
    complete(text, **how)
    return client.get(location).json()["meta"]


def test_every_key_has_the_probability_of_its_least_likely_token(client):
    confidence = meta_of(client, uncertain=CARD["nama"])["confidence"]

    assert set(confidence) == {field.path for field in FIELDS}
    assert confidence["nama"] == pytest.approx(0.368)
    assert confidence["nik"] == 1.0


def test_what_was_not_read_or_was_corrected_has_no_confidence(client):
    assert set(meta_of(client, "{}")["confidence"].values()) == {None}

    meta = meta_of(client)
    reading = KtpExtraction.objects.get(pk=meta["id"])
    reading.correct(User.objects.create_user("reviewer"), {"nama": "LAIN"}, reading.version)
    again = client.get(f"/ktp-ocr/{reading.pk}").json()
    assert (again["nama"], again["meta"]["confidence"]["nama"]) == ("LAIN", None)
    assert again["meta"]["confidence"]["nik"] == 1.0
    assert again["meta"]["review"] == "needs_review"


def test_the_picture_is_judged_and_its_erasing_takes_that_along(client):
    meta = meta_of(client)
    assert (meta["quality"]["width"], meta["quality"]["height"]) == (856, 540)
    assert isinstance(meta["quality"]["flags"], list)

    KtpImage.objects.all().delete()
    assert client.get(f"/ktp-ocr/{meta['id']}").json()["meta"]["quality"] is None


def test_the_first_digits_of_the_number_are_its_region(client):
    meta = meta_of(client)
    assert CARD["nik"].startswith("3171")
    assert (meta["province_code"], meta["province"], meta["city_code"]) == ("31", "DKI JAKARTA", "3171")
    assert [meta[key] for key in ("city", "blood_type", "issued_at", "issued_on")] == [None] * 4

    unread = meta_of(client, "{}")
    assert (unread["province_code"], unread["province"], unread["city_code"]) == (None, None, None)


@pytest.mark.parametrize(
    ("text", "quality", "code"),
    [
        ('{"nik": ""}', {"flags": []}, "not_a_card"),
        ('{"nik": ""}', {"flags": ["tilted"]}, "not_a_card"),
        ('{"nik": ""}', {"flags": ["blurred"]}, "unreadable"),
        ("no json", None, "unreadable"),
        ("", None, "unreadable"),
    ],
)
def test_a_strict_caller_gets_no_empty_reading(client, text, quality, code):
    location = post(client, specimen(), headers=ASYNC)["Location"]
    if quality is not None:
        KtpImage.objects.update(quality=KtpImage.objects.get().quality | quality)
    complete(text)

    assert client.get(location).status_code == 200
    refused = client.get(location, headers=STRICT)
    assert (refused.status_code, error_of(refused)["code"]) == (422, code)
    assert refused["Content-Location"] == location
    assert error_of(refused)["param"] == "image"


def test_an_error_for_a_strict_caller_does_not_undo_the_end_of_the_reading(client):
    location = post(client, specimen(), headers=ASYNC)["Location"]
    complete('{"nik": ""}')

    assert client.get(location, headers=STRICT).status_code == 422
    assert KtpExtraction.objects.get().state == KtpExtraction.State.READ
    assert not AuditEntry.objects.filter(action="api_read").exists()


def test_a_strict_caller_who_waits_is_told_at_once(client, model_that_says):
    model_that_says('{"nik": ""}')
    refused = post(client, specimen(), headers=STRICT)
    assert refused.status_code == 422
    assert uuid.UUID(refused["Content-Location"].rpartition("/")[2]) == KtpExtraction.objects.get().pk

    model_that_says(CARD_JSON)
    read = post(client, specimen(), headers=STRICT)
    assert (read.status_code, read["Preference-Applied"]) == (200, "handling=strict")
