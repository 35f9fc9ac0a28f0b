"""Callbacks go out in a thread of their own: a receiver that hangs holds up neither the sweep nor other receivers."""

from __future__ import annotations

import contextlib
import datetime
import threading
from collections.abc import Iterator

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import InterfaceError, OperationalError, connection, connections
from django.utils import timezone

from ocr.callbacks import courier as courier_module
from ocr.callbacks import sending
from ocr.callbacks.courier import Courier
from ocr.callbacks.sending import PLACES_OF_HOST
from ocr.models import KtpCallback, KtpExtraction
from sessions_app.models import ChatSession
from sessions_app.store.sweeper import sweep
from tests.callback_receiver import Receiver
from tests.db.ktp_calls import ASYNC
from tests.db.ktp_cards import CARD_JSON, answer, specimen
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

DEADLINE_SECONDS = 20.0


@pytest.fixture(autouse=True)
def called_back(settings):
    settings.OCR_CALLBACK_HOSTS = ["127.0.0.1", "localhost"]
    settings.OCR_CALLBACK_SECRETS = ["kD3vX9sLw7RtB4nZc8HdmQ2yFpU6gJ1e"]
    settings.MEDIA_ALLOW_PRIVATE_HOSTS = True
    # What hangs here hangs for as long as the test.
    settings.OCR_CALLBACK_TIMEOUT_SECONDS = 3600


@pytest.fixture
def hanging() -> Iterator[Receiver]:
    with Receiver() as receiver:
        receiver.may_answer.clear()
        yield receiver


def owe(client, *urls):
    """A reading for each address, which has ended."""
    for url in urls:
        image = SimpleUploadedFile("a.jpg", specimen())
        assert client.post("/ktp-ocr/", {"image": image, "callback_url": url}, headers=ASYNC).status_code == 202
    for session in ChatSession.objects.queued():
        answer(session.pk, CARD_JSON)
    for reading in KtpExtraction.objects.all():
        client.get(f"/ktp-ocr/{reading.pk}")


def test_a_receiver_that_hangs_holds_up_no_sweep(client, hanging):
    owe(client, hanging.url)
    ended = threading.Event()

    def sweep_once():
        sweep()
        connections.close_all()
        ended.set()

    threading.Thread(target=sweep_once).start()
    assert ended.wait(DEADLINE_SECONDS)


@contextlib.contextmanager
def running_courier() -> Iterator[Courier]:
    courier = Courier()
    courier.start()
    try:
        yield courier
    finally:
        courier.stop(DEADLINE_SECONDS)


def test_other_receivers_are_told_while_one_hangs(client, hanging):
    with Receiver() as receiver:
        owe(client, *[hanging.url_at("localhost")] * 25, receiver.url)
        with running_courier():
            wait_for(lambda: receiver.got)
            wait_for(lambda: KtpCallback.objects.filter(state="delivered").exists())
    assert len(hanging.got) == PLACES_OF_HOST
    assert KtpCallback.objects.get(state="delivered").host == "127.0.0.1"
    assert KtpCallback.objects.filter(host="localhost", state="pending").count() == 25


def test_a_host_that_takes_its_callbacks_gets_all_of_them(client):
    with Receiver() as receiver:
        owe(client, *[receiver.url] * 5)
        with running_courier():
            wait_for(lambda: KtpCallback.objects.filter(state="delivered").count() == 5)
    assert len(receiver.got) == 5


@pytest.mark.skipif(connection.vendor != "postgresql", reason="SQLite's connections are files of this process")
def test_no_connection_is_held_while_a_receiver_hangs(client, hanging):
    owe(client, hanging.url)
    with running_courier():
        wait_for(lambda: hanging.got)
        wait_for(lambda: others_connected() == 0)


def others_connected():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return cursor.fetchone()[0]


def test_what_a_stop_cuts_off_is_sent_by_the_next_worker_at_once(client, hanging):
    owe(client, hanging.url)
    with running_courier() as courier:
        wait_for(lambda: hanging.got)
    assert not courier.is_alive()
    callback = KtpCallback.objects.get()
    assert (callback.state, callback.attempts) == ("pending", 0)
    assert callback.next_try_at <= timezone.now()

    hanging.may_answer.set()
    with running_courier():
        wait_for(lambda: KtpCallback.objects.get().state == "delivered")
    assert KtpCallback.objects.get().attempts == 1


def test_each_sweep_is_followed_by_a_look_for_callbacks(client, settings, monkeypatch):
    settings.SWEEP_SECONDS = 3600
    looked = threading.Event()

    def looking(*args):
        looked.set()
        return sending.claim(*args)

    monkeypatch.setattr(courier_module, "claim", looking)
    with Receiver() as receiver, running_courier():
        assert looked.wait(DEADLINE_SECONDS)
        owe(client, receiver.url)
        sweep()
        wait_for(lambda: receiver.got)


def test_the_courier_goes_on_when_the_database_was_away(client, monkeypatch, settings, caplog):
    settings.SWEEP_SECONDS = 0.01
    failures = [OperationalError("away"), RuntimeError("odd")]

    def failing(*args):
        if failures:
            raise failures.pop()
        return sending.claim(*args)

    monkeypatch.setattr(courier_module, "claim", failing)
    with Receiver() as receiver:
        owe(client, receiver.url)
        with running_courier():
            wait_for(lambda: receiver.got)
    assert "away" in caplog.text and "odd" in caplog.text


def test_an_error_at_a_later_callback_loses_none_that_was_claimed_before(client, monkeypatch, settings):
    settings.SWEEP_SECONDS = 0.01
    failures = [OperationalError("away")]

    def failing(places, under_way):
        for callback in sending.claim(places, under_way):
            yield callback
            if failures:
                raise failures.pop()

    monkeypatch.setattr(courier_module, "claim", failing)
    with Receiver() as receiver:
        owe(client, receiver.url, receiver.url)
        with running_courier():
            wait_for(lambda: KtpCallback.objects.filter(state="delivered", attempts=1).count() == 2)
    assert len(receiver.got) == 2


def test_an_attempt_that_lasts_longer_than_the_pause_is_not_made_a_second_time_meanwhile(client, hanging, settings):
    settings.SWEEP_SECONDS = 0.01
    owe(client, hanging.url)
    with running_courier():
        wait_for(lambda: hanging.got)
        callback = KtpCallback.objects.get()
        assert callback.next_try_at - timezone.now() > datetime.timedelta(seconds=3600)


def test_what_came_of_an_attempt_is_stored_once_the_database_is_back(client, monkeypatch, settings):
    settings.SWEEP_SECONDS = 0.01
    failures = [OperationalError("away"), InterfaceError("away")]

    def failing(callback, attempt):
        if failures:
            raise failures.pop()
        sending.note(callback, attempt)

    monkeypatch.setattr(courier_module, "note", failing)
    with Receiver() as receiver:
        owe(client, receiver.url)
        with running_courier():
            wait_for(lambda: KtpCallback.objects.filter(state="delivered").exists())
    assert len(receiver.got) == 1


def test_a_late_failure_says_nothing_of_an_attempt_that_has_begun_since(client):
    owe(client, "http://127.0.0.1:9/")
    [first] = sending.claim(1, {})
    KtpCallback.objects.update(next_try_at=timezone.now())
    [second] = sending.claim(1, {})
    sending.note(first, sending.Attempt(error="too late"))
    assert KtpCallback.objects.get().error == ""
    sending.note(second, sending.Attempt(error="in time"))
    assert KtpCallback.objects.get().error == "in time"


def test_a_late_success_counts_all_the_same(client):
    owe(client, "http://127.0.0.1:9/")
    [first] = sending.claim(1, {})
    KtpCallback.objects.update(next_try_at=timezone.now())
    [_] = sending.claim(1, {})
    sending.note(first, sending.Attempt(status=204))
    assert KtpCallback.objects.get().state == "delivered"
