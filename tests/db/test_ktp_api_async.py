"""A caller of the API who does not wait: it comes back for its reading, and erases it."""

from __future__ import annotations

import threading
import uuid

import pytest
from django.db import connections
from django.test import Client
from django.utils import timezone

from ocr.audit.models import AuditEntry
from ocr.audit.recording import Actor
from ocr.erasing import erase
from ocr.models import KtpChange, KtpExtraction, KtpImage
from ocr.tombstones import Why
from sessions_app.callers import caller_with_key
from sessions_app.models import ChatSession
from tests.db.ktp_calls import ASYNC, KEYS, complete, error_of, post, with_key
from tests.db.ktp_cards import CARD_JSON, read_extraction, specimen
from tests.ktp_card import CARD
from tests.waiting import wait_for

# The operation is async and its database work runs on other threads.
pytestmark = pytest.mark.django_db(transaction=True)

KEY, OTHER_KEY = f"key-{uuid.uuid4()}", f"key-{uuid.uuid4()}"


def test_who_prefers_not_to_wait_gets_a_location_and_reads_it_there(client):
    sent = post(client, specimen(), headers=ASYNC)

    extraction = KtpExtraction.objects.get()
    assert sent.status_code == 202
    assert sent["Location"] == f"/ktp-ocr/{extraction.pk}"
    assert sent["Preference-Applied"] == "respond-async"
    assert int(sent["Retry-After"]) > 0
    assert sent["X-Session-ID"] == extraction.session_id
    body = sent.json()
    assert (body["id"], body["state"], body["location"]) == (str(extraction.pk), "reading", sent["Location"])

    waiting = client.get(sent["Location"])
    assert (waiting.status_code, waiting.json()) == (202, body)
    assert int(waiting["Retry-After"]) > 0

    complete()
    read = client.get(sent["Location"])
    assert read.status_code == 200
    assert list(read.json()) == KEYS
    assert read.json()["nik"] == CARD["nik"]
    assert read.json()["meta"]["state"] == "read"


def test_a_preference_to_wait_a_little_is_kept(client, model_that_says):
    sent = post(client, specimen(), headers={"Prefer": "respond-async, wait=1"})
    assert (sent.status_code, sent["Preference-Applied"]) == (202, "respond-async, wait=1")
    complete()

    model_that_says(CARD_JSON)
    read = post(client, specimen(), headers={"Prefer": "respond-async, wait=60"})
    assert read.status_code == 200
    assert not read.has_header("Preference-Applied")


def test_a_failed_reading_is_read_as_the_answer_would_have_been(client):
    location = post(client, specimen(), headers=ASYNC)["Location"]
    complete("", reason="cancelled")

    body = client.get(location).json()
    assert (body["meta"]["state"], body["meta"]["problems"][0]["code"]) == ("failed", "cancelled")


def test_a_reading_is_found_by_the_key_that_sent_it_alone(client, settings):
    settings.API_KEYS = [KEY, OTHER_KEY]
    location = post(client, specimen(), headers=with_key(KEY, **ASYNC))["Location"]

    assert client.get(location, headers=with_key(KEY)).status_code == 202
    for method in (client.get, client.delete):
        others = method(location, headers=with_key(OTHER_KEY))
        nobodys = method(f"/ktp-ocr/{uuid.uuid4()}", headers=with_key(OTHER_KEY))
        assert others.status_code == nobodys.status_code == 404
        assert error_of(others)["code"] == error_of(nobodys)["code"] == "reading_not_found"
        assert method(location).status_code == 401
    assert KtpExtraction.objects.exists()


def test_a_clerks_card_is_not_served(client, django_user_model):
    clerk = django_user_model.objects.create_user("clerk")
    extraction = read_extraction(clerk)
    KtpExtraction.objects.update(caller="address:127.0.0.1")

    assert client.get(f"/ktp-ocr/{extraction.pk}").status_code == 404


def test_what_is_no_id_is_nothing_at_this_address(client):
    response = client.get("/ktp-ocr/17")
    assert (response.status_code, error_of(response)["code"]) == (404, "not_found")


def test_a_reading_that_goes_on_is_cancelled_and_erased(client):
    sent = post(client, specimen(), headers=ASYNC)

    assert client.delete(sent["Location"]).status_code == 204

    assert not KtpExtraction.objects.exists()
    assert not KtpImage.objects.exists()
    assert not ChatSession.objects.exists()
    for gone in (client.get(sent["Location"]), client.delete(sent["Location"])):
        assert (gone.status_code, error_of(gone)["code"]) == (410, "reading_gone")


def test_that_a_reading_was_erased_is_told_to_its_caller_alone(client, settings):
    settings.API_KEYS = [KEY, OTHER_KEY]
    location = post(client, specimen(), headers=with_key(KEY, **ASYNC))["Location"]
    extraction = KtpExtraction.objects.get()
    erase([extraction], why=Why.REQUEST, by=Actor.of_command())

    assert client.get(location, headers=with_key(KEY)).status_code == 410
    assert client.get(location, headers=with_key(OTHER_KEY)).status_code == 404


def test_a_frozen_reading_stays(client):
    location = post(client, specimen(), headers=ASYNC)["Location"]
    KtpExtraction.objects.update(frozen_at=timezone.now())

    refused = client.delete(location)
    assert (refused.status_code, error_of(refused)["code"]) == (409, "reading_frozen")
    assert client.get(location).status_code == 202


def test_one_that_is_frozen_while_it_is_being_erased_stays_too(client, frozen_meanwhile):
    location = post(client, specimen(), headers=ASYNC)["Location"]
    frozen_meanwhile(KtpExtraction.objects.get())

    refused = client.delete(location)
    assert (refused.status_code, error_of(refused)["code"]) == (409, "reading_frozen")
    assert client.get(location).status_code == 202


def test_a_reading_that_ended_is_erased_with_its_history(client):
    sent = post(client, specimen(), headers=ASYNC)
    complete()
    assert client.get(sent["Location"]).status_code == 200

    assert client.delete(sent["Location"]).status_code == 204
    assert not KtpExtraction.objects.exists() and not KtpChange.objects.exists()


def test_who_waits_for_a_reading_that_is_erased_meanwhile_is_told(client, settings):
    settings.HUB_POLL_SECONDS = 0.05
    erased = []

    def erase():
        wait_for(KtpExtraction.objects.exclude(session=None).exists)
        extraction = KtpExtraction.objects.get()
        erased.append(Client().delete(f"/ktp-ocr/{extraction.pk}").status_code)
        connections.close_all()

    thread = threading.Thread(target=erase)
    thread.start()
    response = post(client, specimen())
    thread.join()
    assert erased == [204]
    assert (response.status_code, error_of(response)["code"]) == (410, "reading_gone")


def test_every_reading_and_erasing_is_in_the_audit_log(client, settings):
    settings.API_KEYS = [KEY]
    location = post(client, specimen(), headers=with_key(KEY, **ASYNC))["Location"]
    client.get(location, headers=with_key(KEY))  # nothing of the card yet
    complete()
    client.get(location, headers=with_key(KEY))
    client.delete(location, headers=with_key(KEY))

    lines = AuditEntry.objects.filter(action__in=("api_read", "api_deleted")).order_by("sequence")
    assert [line.action for line in lines] == ["api_read", "api_deleted"]
    assert {str(line.card) for line in lines} == {location.rpartition("/")[2]}
    assert {line.actor_name for line in lines} == {caller_with_key(KEY)}
