"""The audit log: lines are appended with what they are about, form one chain, and are never changed."""

from __future__ import annotations

import itertools
import threading
import uuid

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, transaction
from django.db.utils import IntegrityError
from django.test import RequestFactory

from ocr.audit import triggers
from ocr.audit.actors import Actor
from ocr.audit.chain import hash_of
from ocr.audit.models import Action, ActorKind, AuditEntry, AuditHead
from ocr.audit.recording import record, record_each
from ocr.audit.triggers import refuse_changes  # before tests do without it
from ocr.models import KtpExtraction
from sessions_app.callers import caller_with_key
from sessions_app.db import release_connections

SERVER = Actor.of_server()


@pytest.mark.django_db
def test_a_line_says_who_did_what_with_which_card_when_from_where_and_what_for():
    card = KtpExtraction.objects.create()
    siti = User.objects.create_user("siti")
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.7")
    request.user = siti

    record(Action.REVEALED, actor=Actor.of_request(request), card=card, purpose="review", facts={"fields": ["nik"]})

    line = AuditEntry.objects.get()
    assert (line.sequence, line.action, line.card, line.purpose) == (1, "revealed", card.pk, "review")
    assert (line.actor_kind, line.actor_id, line.actor_name) == ("user", str(siti.pk), "siti")
    assert (line.address, line.facts) == ("192.0.2.7", {"fields": ["nik"]})


@pytest.mark.django_db
def test_a_line_survives_its_card_and_its_user():
    card = KtpExtraction.objects.create()
    siti = User.objects.create_user("siti")
    record(Action.VIEWED, actor=Actor.of_user(siti), card=card)
    pk = card.pk

    card.delete()
    siti.delete()

    line = AuditEntry.objects.get()
    assert (line.card, line.actor_name) == (pk, "siti")


def test_a_key_is_named_by_its_hmac():
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.7")
    request.__dict__["auth"] = caller_with_key("secret-key-of-an-integrator")
    actor = Actor.of_request(request)
    assert actor.kind is ActorKind.KEY
    assert f"key:{actor.id}" == caller_with_key("secret-key-of-an-integrator") == actor.name


def test_without_keys_the_api_has_addresses():
    request = RequestFactory().get("/", REMOTE_ADDR="192.0.2.7")
    request.__dict__["auth"] = "address:192.0.2.7"
    assert Actor.of_request(request) == Actor(ActorKind.ADDRESS, "", "address:192.0.2.7", "192.0.2.7")


@pytest.mark.django_db
def test_each_line_has_the_hash_of_the_one_before():
    record(Action.VIEWED, actor=SERVER, card=uuid.uuid4())
    record_each(Action.EXPORTED, [uuid.uuid4(), uuid.uuid4()], actor=SERVER, facts={"format": "csv"})

    lines = list(AuditEntry.objects.order_by("sequence"))
    assert [line.sequence for line in lines] == [1, 2, 3]
    assert [line.previous_hash for line in lines] == ["", lines[0].hash, lines[1].hash]
    assert [hash_of(line) for line in lines] == [line.hash for line in lines]
    head = AuditHead.objects.get()
    assert (head.sequence, head.hash) == (3, lines[2].hash)


@pytest.mark.django_db
def test_a_line_goes_with_the_deed_that_failed():
    record(Action.VIEWED, actor=SERVER)
    with pytest.raises(RuntimeError), transaction.atomic():
        record(Action.ERASED, actor=SERVER)
        raise RuntimeError
    record(Action.VIEWED, actor=SERVER)
    assert list(AuditEntry.objects.order_by("sequence").values_list("sequence", "action")) == [
        (1, "viewed"),
        (2, "viewed"),
    ]


@pytest.mark.django_db
@pytest.mark.parametrize("facts", [{"nik": "9901014101900001"}, {"a": [{"b": "NIK 9901014101900001."}]}])
def test_a_nik_is_refused(facts):
    with pytest.raises(ValueError, match="looks like a NIK"):
        record(Action.SEARCHED, actor=SERVER, facts=facts)
    with pytest.raises(ValueError, match="looks like a NIK"):
        record(Action.SEARCHED, actor=SERVER, purpose="looks for 9901014101900001")


@pytest.mark.django_db
def test_facts_that_databases_write_differently_are_refused():
    with pytest.raises(ValueError, match="float"):
        record(Action.EXPORTED, actor=SERVER, facts={"seconds": 1.50})


@pytest.mark.django_db
def test_django_refuses_to_change_a_line():
    line = record(Action.VIEWED, actor=SERVER)
    line.actor_name = "nobody"
    with pytest.raises(TypeError, match="written once"):
        line.save()
    with pytest.raises(TypeError, match="written once"):
        line.delete()
    with pytest.raises(TypeError, match="written once"):
        AuditEntry.objects.update(actor_name="nobody")
    with pytest.raises(TypeError, match="written once"):
        AuditEntry.objects.all().delete()


@pytest.mark.django_db
@pytest.mark.parametrize("statement", ["UPDATE ocr_auditentry SET actor_name = 'nobody'", "DELETE FROM ocr_auditentry"])
def test_the_database_refuses_to_change_a_line(statement):
    refuse_changes(connection)
    assert triggers.are_present(connection)
    record(Action.VIEWED, actor=SERVER)
    with (
        pytest.raises((DatabaseError, IntegrityError), match="append-only"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)
    record(Action.VIEWED, actor=SERVER)
    assert AuditEntry.objects.count() == 2


@pytest.mark.django_db(transaction=True)
def test_writers_at_the_same_time_make_one_chain():
    failures: list[BaseException] = []

    def write() -> None:
        try:
            for _ in range(10):
                record(Action.VIEWED, actor=SERVER, card=uuid.uuid4())
        except BaseException as exc:
            failures.append(exc)
        finally:
            release_connections()
            connection.close()

    writers = [threading.Thread(target=write, name=f"writer {number}") for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert failures == []
    lines = list(AuditEntry.objects.order_by("sequence"))
    assert [line.sequence for line in lines] == list(range(1, 41))
    assert all(line.previous_hash == before.hash for before, line in itertools.pairwise(lines))
