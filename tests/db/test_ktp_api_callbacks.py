"""The server tells a caller's own server that a reading has ended: signed, without card data, until it is taken."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import json

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from django.utils import timezone

from ocr.audit.models import AuditEntry
from ocr.callbacks import courier, sending
from ocr.callbacks.courier import Deliveries
from ocr.callbacks.models import MAX_PAUSE_SECONDS, pause_after
from ocr.callbacks.sending import claim
from ocr.callbacks.signing import signature
from ocr.groups import reset_groups
from ocr.models import KtpCallback, KtpExtraction, KtpSubmittedImage
from ocr.submissions import INTERRUPTED_SECONDS, KtpSubmission
from sessions_app.models import ChatSession
from tests.callback_receiver import Receiver
from tests.db.ktp_calls import ASYNC, complete, error_of
from tests.db.ktp_cards import CARD_JSON, answer, specimen
from tests.ktp_card import CARD

pytestmark = pytest.mark.django_db(transaction=True)

SECRETS = ["first-" + "x" * 32, "second-" + "y" * 32]


@pytest.fixture(autouse=True)
def called_back(settings):
    settings.OCR_CALLBACK_HOSTS = ["127.0.0.1"]
    settings.OCR_CALLBACK_SECRETS = SECRETS
    settings.MEDIA_ALLOW_PRIVATE_HOSTS = True


def send(client, url, field="image", count=1, **headers):
    files = [SimpleUploadedFile("a.jpg", specimen()) for _ in range(count)]
    return client.post("/ktp-ocr/", {field: files, "callback_url": url}, headers=ASYNC | headers)


def send_due():
    """Send what is due, until all of it has ended; how many."""
    with Deliveries() as deliveries:
        count = deliveries.start_due()
        while len(deliveries):
            deliveries.wait(1)
            deliveries.note_ended()
    return count


def make_due():
    KtpCallback.objects.update(next_try_at=timezone.now() - datetime.timedelta(seconds=1))


def test_who_asked_for_it_is_told_once_that_the_reading_has_ended(client):
    with Receiver() as receiver:
        location = send(client, receiver.url)["Location"]
        assert send_due() == 0  # it goes on
        complete()
        client.get(location)
        assert send_due() == 1
        make_due()
        assert send_due() == 0

    [got] = receiver.got
    reading = KtpExtraction.objects.get()
    assert got.path == "/hook?token=s3cret"
    assert json.loads(got.body) == {
        "id": str(reading.pk),
        "kind": "reading",
        "state": "read",
        "location": location,
    }
    assert CARD["nik"].encode() not in got.body
    callback = KtpCallback.objects.get()
    assert (callback.state, callback.attempts, callback.status, callback.error) == ("delivered", 1, 204, "")
    assert got.headers["Sambung-Callback-Id"] == str(callback.pk)
    line = AuditEntry.objects.get(action="delivered")
    assert (line.card, line.facts) == (reading.pk, {"callback": str(callback.pk)})


def test_the_signature_is_an_hmac_of_time_and_body_by_every_secret(client):
    with Receiver() as receiver:
        send(client, receiver.url)
        complete()
        client.get(f"/ktp-ocr/{KtpExtraction.objects.get().pk}")
        send_due()
    [got] = receiver.got
    stamp, *digests = got.headers["Sambung-Signature"].split(",")
    said = stamp.removeprefix("t=").encode() + b"." + got.body
    assert digests == [f"v1={hmac.new(s.encode(), said, hashlib.sha256).hexdigest()}" for s in SECRETS]
    assert abs(int(stamp.removeprefix("t=")) - timezone.now().timestamp()) < 600
    assert signature(b"a", at=1, secrets=["k"]) != signature(b"a", at=2, secrets=["k"])


def test_a_batch_is_told_once_and_only_when_all_have_ended(client):
    with Receiver() as receiver:
        location = send(client, receiver.url, "images", 2)["Location"]
        first, second = ChatSession.objects.queued()
        answer(first.pk, CARD_JSON)
        client.get(location)
        assert send_due() == 0
        answer(second.pk, CARD_JSON)
        client.get(location)
        assert send_due() == 1
    assert json.loads(receiver.got[0].body)["location"] == location


def test_a_batch_is_not_told_while_a_picture_is_taken_in(client):
    send(client, "http://127.0.0.1:1/", "images")
    KtpSubmittedImage.objects.update(extraction=None)
    assert not KtpCallback.objects.due().exists()
    KtpSubmittedImage.objects.update(error={"code": "invalid_media"}, error_status=400)
    assert KtpCallback.objects.due().exists()


def test_an_interrupted_batch_is_told_when_its_list_says_that_it_has_ended(client):
    with Receiver() as receiver:
        location = send(client, receiver.url, "images", 2)["Location"]
        for session in ChatSession.objects.queued():
            answer(session.pk, CARD_JSON)
        client.get(location)
        left = KtpSubmittedImage.objects.latest("position")
        KtpSubmittedImage.objects.filter(pk=left.pk).update(extraction=None)
        assert send_due() == 0
        long_ago = timezone.now() - datetime.timedelta(seconds=INTERRUPTED_SECONDS + 1)
        KtpSubmission.objects.update(created_at=long_ago)
        assert client.get(location).json()["state"] == "ended"
        assert send_due() == 1


def test_what_is_not_taken_is_tried_again_with_longer_pauses_and_then_given_up(client, settings):
    settings.OCR_CALLBACK_MAX_ATTEMPTS = 3
    with Receiver(500, 302, 500) as receiver:
        send(client, receiver.url)
        complete()
        client.get(f"/ktp-ocr/{KtpExtraction.objects.get().pk}")
        pauses = []
        for _ in range(3):
            before = timezone.now()
            assert send_due() == 1
            assert send_due() == 0  # not at once again
            pauses.append((KtpCallback.objects.get().next_try_at - before).total_seconds())
            make_due()
        assert send_due() == 0
    assert len(receiver.got) == 3  # and no redirect was followed
    assert [round(pause / 30) for pause in pauses] == [1, 2, 4]
    callback = KtpCallback.objects.get()
    assert (callback.state, callback.attempts, callback.status) == ("failed", 3, 500)
    assert "500" in callback.error
    assert pause_after(40).total_seconds() == MAX_PAUSE_SECONDS


def test_an_attempt_is_counted_before_it_is_made(client):
    send(client, "http://127.0.0.1:1/")
    complete()
    client.get(f"/ktp-ocr/{KtpExtraction.objects.get().pk}")
    assert len(list(claim(1, {}))) == 1  # and the process is killed
    callback = KtpCallback.objects.get()
    assert (callback.state, callback.attempts) == ("pending", 1)
    assert callback.next_try_at > timezone.now()


@pytest.fixture
def two_due(client):
    """The receiver and two callbacks to it, the older first."""
    with Receiver() as receiver:
        for _ in range(2):
            send(client, receiver.url)
            complete()
        for reading in KtpExtraction.objects.all():
            client.get(f"/ktp-ocr/{reading.pk}")
        yield receiver, *KtpCallback.objects.order_by("next_try_at")


def states():
    return list(KtpCallback.objects.order_by("created_at").values_list("state", flat=True))


def test_a_host_whose_name_looks_like_a_nik_is_told_once(two_due):
    _, first, _ = two_due
    KtpCallback.objects.filter(pk=first.pk).update(host="3171012345678901.hook.example")
    assert send_due() == 2
    assert states() == ["delivered", "delivered"]
    make_due()
    assert send_due() == 0


@pytest.mark.parametrize(("module", "step"), [(courier, "note"), (sending, "_send")])
def test_what_breaks_with_one_callback_does_not_reach_the_others(two_due, monkeypatch, module, step):
    _, first, _ = two_due
    whole = getattr(module, step)

    def broken(callback, *args):
        if callback.pk == first.pk:
            raise ValueError(step)
        return whole(callback, *args)

    monkeypatch.setattr(module, step, broken)
    assert send_due() == 2
    assert states() == ["pending", "delivered"]


def test_one_whose_last_attempt_was_never_noted_is_given_up(two_due, settings):
    receiver, first, _ = two_due
    KtpCallback.objects.filter(pk=first.pk).update(attempts=settings.OCR_CALLBACK_MAX_ATTEMPTS)
    assert send_due() == 1
    assert states() == ["failed", "delivered"]
    assert len(receiver.got) == 1


def test_what_cannot_be_reached_says_so_without_the_address(client, settings):
    send(client, "http://127.0.0.1:1/secret-path")
    complete()
    client.get(f"/ktp-ocr/{KtpExtraction.objects.get().pk}")
    send_due()
    error = KtpCallback.objects.get().error
    assert "could not be reached" in error and "secret" not in error and "127" not in error

    # The rules may have become stricter since it was taken.
    settings.MEDIA_ALLOW_PRIVATE_HOSTS = False
    make_due()
    send_due()
    assert "public internet" in KtpCallback.objects.get().error


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/",
        "http://user:pass@127.0.0.1/",
        "http://other.example/",
        "http://169.254.169.254/latest",
        "nothing",
        "http://127.0.0.1/" + "a" * 2000,
    ],
)
def test_an_address_that_is_not_allowed_is_refused_at_once(client, url):
    refused = send(client, url)
    assert (refused.status_code, error_of(refused)["code"]) == (400, "invalid_callback_url")
    assert error_of(refused)["param"] == "callback_url"
    assert not KtpExtraction.objects.exists()


@pytest.mark.parametrize("name", ["OCR_CALLBACK_HOSTS", "OCR_CALLBACK_SECRETS"])
def test_those_that_are_owed_wait_while_there_are_no_hosts_or_no_secrets(client, settings, name):
    with Receiver() as receiver:
        send(client, receiver.url)
        complete()
        client.get(f"/ktp-ocr/{KtpExtraction.objects.get().pk}")
        before = getattr(settings, name)
        setattr(settings, name, [])
        assert send_due() == 0
        assert receiver.got == []
        setattr(settings, name, before)
        assert send_due() == 1


def test_nothing_is_sent_unsigned():
    with pytest.raises(ValueError, match="without a secret"):
        signature(b"a", at=1, secrets=[])


@pytest.mark.parametrize("name", ["OCR_CALLBACK_HOSTS", "OCR_CALLBACK_SECRETS"])
def test_without_hosts_or_secrets_there_are_none(client, settings, name):
    setattr(settings, name, [])
    assert send(client, "http://127.0.0.1/").status_code == 400


def test_the_address_is_stored_encrypted_and_goes_with_the_reading(client):
    location = send(client, "http://127.0.0.1/hook?token=s3cret")["Location"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT url FROM ocr_ktpcallback")
        assert "s3cret" not in str(cursor.fetchone())
    client.delete(location)
    assert not KtpCallback.objects.exists()


def test_another_address_under_the_same_key_is_another_request(client):
    key = {"Idempotency-Key": "k"}
    assert send(client, "http://127.0.0.1/a", **key).status_code == 202
    assert send(client, "http://127.0.0.1/a", **key).status_code == 202
    assert send(client, "http://127.0.0.1/b", **key).status_code == 422
    assert KtpCallback.objects.count() == 1


def test_operators_see_callbacks_without_their_addresses_and_send_them_again(client):
    reset_groups()
    operator = User.objects.create_user("operator", is_staff=True)
    from django.contrib.auth.models import Group

    operator.groups.add(Group.objects.get(name="Operator"))
    send(client, "http://127.0.0.1:1/hook?token=s3cret")
    KtpCallback.objects.update(state="failed", attempts=10, error="The URL answered with status 500.")
    callback = KtpCallback.objects.get()
    client.force_login(operator)

    for address in ("/admin/ocr/ktpcallback/", f"/admin/ocr/ktpcallback/{callback.pk}/change/"):
        page = client.get(address).content.decode()
        assert "status 500" in page and str(callback.extraction_id) in page
        assert "s3cret" not in page
    client.post("/admin/ocr/ktpcallback/", {"action": "send_selected_again", "_selected_action": [callback.pk]})
    callback.refresh_from_db()
    assert (callback.state, callback.attempts) == ("pending", 0)

    client.force_login(User.objects.create_user("clerk", is_staff=True))
    assert client.get("/admin/ocr/ktpcallback/").status_code == 403
