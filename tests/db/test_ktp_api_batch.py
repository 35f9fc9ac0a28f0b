"""Several pictures in one request, as files or in a zip archive."""

from __future__ import annotations

import io
import struct
import zipfile

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection

from ocr.api import archive, batch, form, router, submitting
from ocr.api.submitting import accept
from ocr.audit.models import AuditEntry
from ocr.card_image import make_ready
from ocr.extraction import complete_extraction
from ocr.models import KtpExtraction, KtpSubmission, KtpSubmittedImage
from ocr.submissions import digest_of
from sessions_app import call_batching
from sessions_app.encryption.keyring import new_item
from sessions_app.models import ChatSession
from tests.db.ktp_calls import ASYNC, KEYS, error_of
from tests.db.ktp_cards import CARD_JSON, answer, read_extraction, specimen
from tests.ktp_card import CARD

pytestmark = pytest.mark.django_db(transaction=True)


def zipped(entries, method=zipfile.ZIP_DEFLATED):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", method) as file:
        for name, data in entries:
            file.writestr(name, data)
    return packed.getvalue()


def send(client, *files, field="images", headers=ASYNC, **more):
    form = {field: [SimpleUploadedFile(f"{n}.bin", data) for n, data in enumerate(files)], **more}
    return client.post("/ktp-ocr/", form, headers=headers)


def complete_all(text=CARD_JSON):
    for session in ChatSession.objects.queued():
        answer(session.pk, text)


def test_each_picture_is_a_reading_and_the_list_keeps_the_order(client):
    sent = send(client, specimen(), b"no picture", specimen("PNG"))

    assert sent.status_code == 202
    batch = sent.json()
    assert sent["Location"] == batch["location"] == f"/ktp-ocr/batches/{KtpSubmission.objects.get().pk}"
    assert batch["state"] == "reading"
    assert [item["position"] for item in batch["items"]] == [0, 1, 2]
    assert [item["status"] for item in batch["items"]] == [202, 400, 202]
    assert batch["items"][1]["error"]["code"] == "invalid_media"
    assert KtpExtraction.objects.count() == 2

    complete_all()
    read = client.get(sent["Location"])
    assert (read.status_code, read.json()["state"]) == (200, "ended")
    items = read.json()["items"]
    assert [item["status"] for item in items] == [200, 400, 200]
    assert list(items[0]["reading"]) == KEYS
    assert items[0]["reading"]["nik"] == CARD["nik"]
    assert items[0]["reading"] == client.get(items[0]["location"]).json()
    assert AuditEntry.objects.filter(action="api_read").count() == 3


def test_a_full_queue_refuses_the_picture_that_it_has_no_place_for(client, settings, monkeypatch):
    # Two calls that count the queue at the same moment may both find a place.
    monkeypatch.setattr(call_batching, "MAX_CALLS", 1)
    settings.MAX_QUEUED_SESSIONS = 1
    items = send(client, specimen(), specimen("PNG"), specimen("WEBP")).json()["items"]
    assert sorted(item["status"] for item in items) == [202, 503, 503]
    assert {item["error"]["code"] for item in items if item["error"]} == {"queue_full"}
    assert KtpExtraction.objects.count() == ChatSession.objects.count() == 1


def test_a_picture_with_which_the_server_fails_takes_no_other_with_it(client, monkeypatch):
    broken = specimen("PNG")

    async def fail_with_one(data, **how):
        if data == broken:
            raise RuntimeError("a secret of the server")
        return await make_ready(data, **how)

    monkeypatch.setattr(submitting, "make_ready", fail_with_one)
    items = send(client, broken, specimen(), specimen("WEBP")).json()["items"]
    assert [item["status"] for item in items] == [500, 202, 202]
    assert items[0]["error"]["code"] == "internal_error"
    assert "secret" not in str(items)


def test_more_batches_than_the_server_holds_in_memory_are_refused(client, settings, monkeypatch):
    settings.OCR_BATCHES_AT_ONCE = 1
    refused = []

    async def send_another(*args, **how):
        # While the first one is being processed.
        with pytest.raises(batch.BatchesFull) as error:
            await batch.submit_batch([], caller="", idempotency_key=None)
        refused.append(error.value)
        return await accept(*args, **how)

    monkeypatch.setattr(batch, "accept", send_another)
    assert send(client, specimen()).status_code == 202
    assert [(error.status, error.headers) for error in refused] == [(503, {"Retry-After": "5"})]
    assert send(client, specimen("PNG")).status_code == 202


@pytest.mark.parametrize("field", ["image", "images"])
def test_a_request_that_waits_holds_no_picture(client, settings, monkeypatch, field):
    settings.OCR_TIMEOUT_SECONDS = 0.2
    held, forms = [], []
    read = form.read

    def look_at_form(request):
        forms.append((request, read(request)))
        return forms[-1][1]

    async def look(*args):
        [(request, sent)] = forms
        held.append((sent.images, [file.closed for _, files in request.FILES.lists() for file in files]))

    monkeypatch.setattr(form, "read", look_at_form)
    monkeypatch.setattr(router, "wait_for_reading", look)
    monkeypatch.setattr(router, "wait_for_all", look)
    send(client, specimen(), field=field, headers={})
    assert held == [([], [True])]


def test_who_waits_gets_the_list_at_once(client, model_that_says):
    model_that_says(CARD_JSON)
    model_that_says(CARD_JSON)

    read = send(client, specimen(), specimen("PNG"), headers={})
    assert read.status_code == 200
    assert [item["reading"]["meta"]["state"] for item in read.json()["items"]] == ["read", "read"]


def test_one_picture_in_the_field_for_several_is_a_list(client):
    assert len(send(client, specimen()).json()["items"]) == 1


def test_a_wait_that_runs_out_says_where_the_list_will_be(client, settings):
    settings.OCR_TIMEOUT_SECONDS = 0.2
    sent = send(client, specimen(), headers={})
    assert (sent.status_code, sent.json()["state"]) == (202, "reading")
    assert client.get(sent["Location"]).status_code == 202


def test_a_strict_caller_gets_errors_in_the_list(client):
    location = send(client, specimen())["Location"]
    complete_all('{"nik": ""}')
    assert client.get(location).json()["items"][0]["status"] == 200
    item = client.get(location, headers={"Prefer": "handling=strict"}).json()["items"][0]
    assert (item["status"], item["reading"]) == (422, None)


def test_an_erased_reading_keeps_its_place(client):
    sent = send(client, specimen(), specimen("PNG"))
    client.delete(sent.json()["items"][0]["location"])

    items = client.get(sent["Location"]).json()["items"]
    assert [item["status"] for item in items] == [410, 202]
    assert items[0]["error"]["code"] == "reading_gone"


def test_readings_of_a_list_are_completed_one_by_one_so_that_no_erasure_waits_for_two(client, monkeypatch):
    in_transaction = []

    def look(pk):
        in_transaction.append(connection.in_atomic_block)
        return complete_extraction(pk)

    monkeypatch.setattr(batch, "complete_extraction", look)
    sent = send(client, specimen(), specimen("PNG"))
    complete_all()
    assert client.get(sent["Location"]).json()["state"] == "ended"
    assert in_transaction == [False, False]


def test_a_reading_whose_key_is_lost_is_an_error_in_its_place(client, settings):
    settings.DATA_KEYS = [new_item("lost")]
    sent = send(client, specimen(), specimen("PNG"))
    complete_all()
    assert [item["status"] for item in client.get(sent["Location"]).json()["items"]] == [200, 200]

    settings.DATA_KEYS = [new_item("kept")]
    KtpSubmittedImage.objects.filter(position=1).update(extraction=read_extraction())
    items = client.get(sent["Location"]).json()["items"]
    assert [item["status"] for item in items] == [503, 200]
    assert items[0]["error"]["code"] == "data_key_missing"


def test_an_answer_whose_key_is_lost_is_an_error_in_its_place_until_the_key_is_back(client, settings):
    lost = new_item("lost")
    settings.DATA_KEYS = [lost]
    sent = send(client, specimen())
    complete_all()
    settings.DATA_KEYS = [new_item("other")]
    assert client.get(sent["Location"]).json()["items"][0]["error"]["code"] == "data_key_missing"
    settings.DATA_KEYS = [lost]
    assert client.get(sent["Location"]).json()["items"][0]["status"] == 200


def test_a_list_that_is_asked_for_again_and_again_is_one_line_for_each_reading(client, settings):
    sent = send(client, specimen(), specimen("PNG"))
    complete_all()
    for _ in range(3):
        client.get(sent["Location"])
    assert AuditEntry.objects.filter(action="api_read").count() == 2

    settings.OCR_AUDIT_POLL_SECONDS = 0
    client.get(sent["Location"])
    assert AuditEntry.objects.filter(action="api_read").count() == 4


def test_the_pictures_are_hashed_before_the_transaction_that_opens_the_list(client, monkeypatch):
    hashed = []

    def look(data, *more):
        hashed.append(connection.in_atomic_block)
        return digest_of(data, *more)

    monkeypatch.setattr(batch, "digest_of", look)
    send(client, specimen(), specimen("PNG"))
    assert hashed == [False, False]


def test_a_list_is_of_the_caller_who_sent_it(client):
    location = send(client, specimen())["Location"]
    KtpSubmission.objects.update(caller="key:another")
    missing = client.get(location)
    assert (missing.status_code, error_of(missing)["code"]) == (404, "batch_not_found")


def test_the_same_pictures_under_the_same_key_are_the_same_list(client):
    headers = {**ASYNC, "Idempotency-Key": "day-1"}
    first = send(client, specimen(), b"no picture", headers=headers)
    again = send(client, specimen(), b"no picture", headers=headers)
    assert first["Location"] == again["Location"]
    assert again["Idempotent-Replayed"] == "true"
    assert KtpExtraction.objects.count() == 1
    assert send(client, b"no picture", specimen(), headers=headers).status_code == 422


@pytest.mark.parametrize("field", ["images", "archive"])
def test_a_zip_is_its_pictures(client, field):
    entries = [
        ("folder/", b""),
        ("../../etc/one.jpg", specimen()),
        ("__MACOSX/._one.jpg", b"x"),
        (".DS_Store", b"x"),
        ("folder\\two.png", specimen("PNG")),
    ]
    sent = send(client, zipped(entries), field=field)
    assert [item["status"] for item in sent.json()["items"]] == [202, 202]
    assert sorted(KtpExtraction.objects.values_list("file_name", flat=True)) == ["one.jpg", "two.png"]


def test_what_cannot_be_taken_of_a_zip_is_an_error_in_its_place(client, settings):
    settings.OCR_MAX_UPLOAD_BYTES = 100_000
    packed = bytearray(zipped([("a.jpg", b"A" * 9), ("b.jpg", specimen()), ("c.zip", zipped([("d.jpg", b"x")]))]))
    # The first entry says that it is encrypted, in its own header and in the directory.
    packed[6] |= 1
    packed[packed.index(b"PK\x01\x02") + 8] |= 1
    bomb = zipped([("e.jpg", bytes(50_000_000))])

    items = send(client, bytes(packed), bomb).json()["items"]
    assert [item["status"] for item in items] == [400, 202, 400, 413]
    assert [item["error"] and item["error"]["code"] for item in items] == [
        "encrypted_entry",
        None,
        "nested_archive",
        "request_too_large",
    ]


def test_a_damaged_entry_is_an_error_in_its_place(client):
    packed = bytearray(zipped([("a.jpg", specimen()), ("b.jpg", specimen("PNG"))], zipfile.ZIP_STORED))
    packed[2000] ^= 0xFF
    assert [item["status"] for item in send(client, bytes(packed)).json()["items"]] == [400, 202]


@pytest.mark.parametrize("data", [b"PK\x03\x04", b"no archive", zipped([("a", b"a")])[:-10], b"PK\x05\x06" + bytes(18)])
def test_what_is_no_archive_is_refused(client, data):
    refused = send(client, data, field="archive")
    assert (refused.status_code, error_of(refused)["param"]) == (400, "archive")


def test_an_archive_with_a_huge_directory_is_not_read(client):
    many = zipped([(f"{n:05}", b"") for n in range(6000)])
    assert send(client, many).status_code == 413
    assert archive.MAX_DIRECTORY_BYTES < 6000 * 46


@pytest.mark.parametrize("comment", [b"", b"c" * 0xFFFF])
def test_the_64_bit_end_of_an_archive_is_not_read(client, monkeypatch, comment):
    # The numbers that it gives would replace those of the end.
    small = zipped([("a.jpg", b"a")])
    end = small.rindex(b"PK\x05\x06")
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, 0, 1)
    sized = small[:end] + locator + small[end:-2] + struct.pack("<H", len(comment)) + comment
    monkeypatch.setattr(zipfile, "ZipFile", None)
    assert send(client, sized).status_code == 413


@pytest.mark.parametrize(("at", "number"), [(4, "<H"), (6, "<H"), (8, "<H"), (10, "<H"), (12, "<L"), (16, "<L")])
def test_an_end_that_leaves_a_number_to_its_64_bit_form_is_refused(client, at, number):
    packed = bytearray(zipped([("a.jpg", b"a")]))
    struct.pack_into(number, packed, packed.rindex(b"PK\x05\x06") + at, 2 ** (8 * struct.calcsize(number)) - 1)
    assert send(client, bytes(packed)).status_code == 413


def test_entries_are_counted_whatever_the_archive_states(client, monkeypatch):
    monkeypatch.setattr(archive, "MAX_ENTRIES", 3)
    packed = bytearray(zipped([("a/", b""), ("b/", b""), ("__MACOSX/c", b""), ("d.jpg", b"d")]))
    assert send(client, bytes(packed)).status_code == 413
    end = packed.rindex(b"PK\x05\x06")
    struct.pack_into("<HH", packed, end + 8, 1, 1)
    assert send(client, bytes(packed)).status_code == 413
    assert send(client, zipped([("a/", b""), ("b/", b""), ("d.jpg", b"d")])).status_code == 200


def test_too_many_pictures_or_bytes_are_refused_as_a_whole(client, settings):
    settings.OCR_BATCH_MAX_IMAGES = 2
    assert send(client, specimen(), specimen(), specimen()).status_code == 413
    assert send(client, zipped([(str(n), b"x") for n in range(3)])).status_code == 413
    settings.OCR_BATCH_MAX_BYTES = len(specimen()) + 10
    assert send(client, specimen(), specimen()).status_code == 413
    assert not KtpExtraction.objects.exists()


def test_both_fields_at_once_are_refused(client):
    both = send(client, specimen(), image=SimpleUploadedFile("a.jpg", specimen()))
    assert (both.status_code, error_of(both)["param"]) == (400, "images")
