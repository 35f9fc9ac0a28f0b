"""Who changes a reading holds the end of the audit log as briefly as can be: its lines are written last."""

from __future__ import annotations

import re

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from ocr import extraction as extractions
from ocr.audit.models import AuditEntry
from ocr.card_image import CardImage
from ocr.desk.handling import _store
from sessions_app.models import ChatSession
from tests.db.ktp_cards import CARD_JSON, read_extraction, specimen

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("sent", "told")]

WRITES_A_CARD = re.compile(r'^(INSERT INTO|UPDATE) "ocr_ktp')


@pytest.fixture
def clerk():
    return User.objects.create_superuser("clerk")


@pytest.fixture
def queries():
    with CaptureQueriesContext(connection) as captured:
        yield lambda: [query["sql"] for query in captured.captured_queries]


def check_recorded_last(sqls):
    """No card is written once the end of the log is locked."""
    locked = next(at for at, sql in enumerate(sqls) if "ocr_audithead" in sql)
    assert any(WRITES_A_CARD.match(sql) for sql in sqls[:locked])
    assert [sql for sql in sqls[locked:] if WRITES_A_CARD.match(sql)] == []


def test_a_reviewer_who_corrects_and_confirms(clerk, queries):
    card = read_extraction(clerk, text=CARD_JSON, uncertain="SPECIMENTO")
    [flag] = card.open_flags
    begun = len(queries())

    _store(card, clerk, {"agama": "ISLAM"}, [(flag.field, flag.code)], card.version)

    check_recorded_last(queries()[begun:])
    actions = AuditEntry.objects.order_by("sequence").values_list("action", flat=True)
    assert list(actions)[-2:] == ["corrected", "confirmed"]


def test_a_clerk_who_corrects_and_confirms(clerk, queries, client):
    card = read_extraction(clerk, text=CARD_JSON, uncertain="SPECIMENTO")
    [flag] = card.open_flags
    client.force_login(clerk)
    begun = len(queries())

    posted = {"version": card.version, "agama": "ISLAM", "confirm": f"{flag.field}|{flag.code}"}
    assert client.post(reverse("ocr:result", args=[card.pk]), posted).status_code == 302

    check_recorded_last(queries()[begun:])
    assert set(AuditEntry.objects.values_list("action", flat=True)) >= {"corrected", "confirmed"}


def test_a_card_that_is_turned(clerk, queries):
    card = read_extraction(clerk)
    session = ChatSession.objects.create(request={"messages": []}, model="tiny", next_index=1, origin="ocr")
    turned = CardImage("image/jpeg", 540, 856, specimen(size=(540, 856)))
    begun = len(queries())

    extractions._begin_again(card, clerk, card.version, session, turned, "90")

    check_recorded_last(queries()[begun:])
    assert AuditEntry.objects.values_list("action", flat=True)[0] == "read_again"
