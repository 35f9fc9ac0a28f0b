"""While a release replaces an older one, processes of both use the database."""

from __future__ import annotations

import pytest
from django.db import connection, transaction

from ocr.callbacks.owing import owe_callback
from ocr.models import KtpCallback, KtpExtraction, KtpSession
from ocr.submissions import KtpSubmittedImage, open_submission
from tests.db.ktp_cards import read_extraction

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.skipif(connection.vendor != "postgresql", reason="with SQLite one process has the database")
def test_a_process_that_does_not_know_these_tables_deletes_a_reading(sent):
    card = read_extraction()
    KtpSession.objects.get_or_create(session_id="read-it", extraction=card)
    owe_callback("http://127.0.0.1/", caller="", extraction=card)
    submission, _ = open_submission(caller="", key="k", digests=["d"])
    KtpSubmittedImage.objects.filter(submission=submission).update(extraction=card)

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM ocr_ktpchange WHERE extraction_id = %s", [card.pk])
        cursor.execute("DELETE FROM ocr_ktpimage WHERE extraction_id = %s", [card.pk])
        cursor.execute("DELETE FROM ocr_ktpextraction WHERE id = %s", [card.pk])

    for model in (KtpExtraction, KtpSession, KtpCallback, KtpSubmittedImage):
        assert not model.objects.exists()
