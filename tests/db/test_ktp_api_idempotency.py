"""The same ``Idempotency-Key`` with the same picture is one reading, whenever it comes again."""

from __future__ import annotations

import datetime
import threading
import uuid

import pytest
from django.db import connections
from django.test import Client
from django.utils import timezone

from ocr import submissions
from ocr.models import KtpExtraction, KtpSubmission, KtpSubmittedImage
from ocr.submissions import digest_of, open_submission
from sessions_app.models import ChatSession
from tests.db.ktp_calls import ASYNC, complete, error_of, post, with_key
from tests.db.ktp_cards import specimen
from tests.ktp_card import CARD

pytestmark = pytest.mark.django_db(transaction=True)

KEY, OTHER_KEY = f"key-{uuid.uuid4()}", f"key-{uuid.uuid4()}"
NAMED = {"Idempotency-Key": "order-17"}


def test_the_same_picture_again_is_the_same_reading(client):
    first = post(client, specimen(), headers=ASYNC | NAMED)
    again = post(client, specimen(), headers=ASYNC | NAMED)

    assert [first.status_code, again.status_code] == [202, 202]
    assert first["Location"] == again["Location"]
    assert not first.has_header("Idempotent-Replayed")
    assert again["Idempotent-Replayed"] == "true"
    assert ChatSession.objects.count() == KtpExtraction.objects.count() == 1

    complete()
    read = post(client, specimen(), headers=NAMED)
    assert (read.status_code, read.json()["nik"]) == (200, CARD["nik"])
    assert post(client, specimen(), headers=ASYNC | NAMED).status_code == 200
    assert ChatSession.objects.count() == 1


def test_who_sends_it_again_while_it_is_read_waits_for_the_same_reading(client, model_that_says):
    post(client, specimen(), headers=ASYNC | NAMED)
    model_that_says("{}")

    assert post(client, specimen(), headers=NAMED).json()["meta"]["state"] == "read"
    assert ChatSession.objects.count() == 1


def test_another_picture_with_the_same_key_is_refused(client):
    post(client, specimen(), headers=ASYNC | NAMED)
    other = post(client, specimen("PNG"), headers=ASYNC | NAMED)

    assert (other.status_code, error_of(other)["code"]) == (422, "idempotency_key_reused")
    assert error_of(other)["param"] == "Idempotency-Key"
    assert KtpExtraction.objects.count() == 1


def test_a_key_is_of_the_caller_who_used_it(client, settings):
    settings.API_KEYS = [KEY, OTHER_KEY]
    locations = {
        post(client, specimen(), headers=with_key(key, **ASYNC, **NAMED))["Location"] for key in (KEY, OTHER_KEY)
    }
    assert len(locations) == 2


def test_a_key_whose_picture_was_refused_is_free_again(client, settings):
    settings.OCR_MAX_UPLOAD_BYTES = 10_000_000
    assert post(client, b"no picture", headers=ASYNC | NAMED).status_code == 400
    assert not KtpSubmission.objects.exists()
    assert post(client, specimen(), headers=ASYNC | NAMED).status_code == 202


def test_while_the_first_request_is_taken_in_the_second_comes_back_later(client):
    post(client, specimen(), headers=ASYNC | NAMED)
    KtpSubmittedImage.objects.update(extraction=None)
    name = KtpSubmission.objects.get()

    busy = post(client, specimen(), headers=ASYNC | NAMED)
    assert (busy.status_code, error_of(busy)["code"]) == (409, "idempotency_key_in_use")
    assert int(busy["Retry-After"]) > 0

    # Its web process was lost: the key is free.
    KtpSubmission.objects.update(created_at=timezone.now() - datetime.timedelta(hours=1))
    assert post(client, specimen(), headers=ASYNC | NAMED).status_code == 202
    assert KtpSubmission.objects.get().pk != name.pk


def test_two_at_once_are_one_reading(client):
    statuses = []

    def send():
        statuses.append(post(Client(), specimen(), headers=ASYNC | NAMED).status_code)
        connections.close_all()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(statuses) <= {202, 409} and 202 in statuses
    assert KtpExtraction.objects.count() == 1


def test_an_erased_reading_is_not_read_again_under_its_key(client):
    location = post(client, specimen(), headers=ASYNC | NAMED)["Location"]
    client.delete(location)

    again = post(client, specimen(), headers=ASYNC | NAMED)
    assert (again.status_code, error_of(again)["code"]) == (410, "reading_gone")
    assert not KtpSubmittedImage.objects.exists()  # the picture's digest went with the reading


def test_a_key_is_forgotten_after_some_days(client, settings):
    post(client, specimen(), headers=ASYNC | NAMED)
    age = datetime.timedelta(days=settings.OCR_IDEMPOTENCY_DAYS)
    KtpSubmission.objects.update(created_at=timezone.now() - age + datetime.timedelta(minutes=5))
    assert submissions.forget_old() == 0
    KtpSubmission.objects.update(created_at=timezone.now() - age - datetime.timedelta(minutes=5))
    assert submissions.forget_old() == 1

    assert KtpExtraction.objects.count() == 1
    assert post(client, specimen(), headers=ASYNC | NAMED).status_code == 202
    assert KtpExtraction.objects.count() == 2


def test_a_key_that_is_too_long_is_refused(client):
    response = post(client, specimen(), headers={"Idempotency-Key": "k" * 256})
    assert (response.status_code, error_of(response)["param"]) == (400, "Idempotency-Key")


def test_a_list_and_a_single_picture_are_different_requests():
    digests = [digest_of(b"a")]
    open_submission(caller="key:a", key="k", digests=digests)
    with pytest.raises(submissions.KeyReused):
        open_submission(caller="key:a", key="k", digests=digests, is_batch=True)
