"""While a release replaces an older one, processes of both use the database."""

from __future__ import annotations

import pytest
from django.contrib.auth.models import Group
from django.core.management import call_command
from django.db import connection, transaction

from ocr.callbacks.storing import owe_callback
from ocr.models import GivenPermission, KtpCallback, KtpExtraction, KtpSession
from ocr.submissions import KtpSubmittedImage, open_submission
from tests.db.ktp_cards import read_extraction

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.skipif(connection.vendor != "postgresql", reason="with SQLite one process has the database"),
]


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


def test_such_a_process_deletes_a_submission():
    submission, _ = open_submission(caller="", key="k", digests=["d"])
    owe_callback("http://127.0.0.1/", caller="", submission=submission)

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM ocr_ktpsubmittedimage")
        cursor.execute("DELETE FROM ocr_ktpsubmission WHERE id = %s", [submission.pk])

    assert not KtpCallback.objects.exists()


def test_such_a_process_deletes_a_group():
    call_command("make_groups", reset=True)
    group = Group.objects.get(name="Clerk")

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("DELETE FROM auth_group_permissions WHERE group_id = %s", [group.pk])
        cursor.execute("DELETE FROM auth_group WHERE id = %s", [group.pk])

    assert not GivenPermission.objects.filter(group_id=group.pk).exists()
