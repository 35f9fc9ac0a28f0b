"""The clerk's tray and the page of a reading, as a browser's requests see them."""

from __future__ import annotations

import io
import json
import re

import numpy as np
import pytest
from django.contrib.auth.models import Group, Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image

from inference.models import ModelWorker
from ocr.models import KtpChange, KtpExtraction, KtpImage
from sessions_app.models import ChatSession, SessionMedia
from tests.db.ktp_cards import CARD_JSON, FLAGGED_JSON, answer, read_extraction, reading_extraction, specimen
from tests.ktp_card import CARD
from tests.media_samples import pdf_bytes

# The upload is an async view whose database work runs on other threads, so nothing may hide in a transaction.
pytestmark = pytest.mark.django_db(transaction=True)

AS_SCRIPT = {"Accept": "application/json, text/html"}


@pytest.fixture
def clerk(django_user_model):
    user = django_user_model.objects.create_user("clerk", password="secret")
    user.groups.add(Group.objects.get_or_create(name="Clerk")[0])
    user.user_permissions.add(Permission.objects.get(codename="add_ktpextraction"))
    return user


@pytest.fixture
def other(django_user_model):
    user = django_user_model.objects.create_user("other")
    user.user_permissions.add(Permission.objects.get(codename="add_ktpextraction"))
    return user


@pytest.fixture
def browser(client, clerk):
    client.force_login(clerk)
    return client


def send(client, data, *, name="ktp.jpg", headers=AS_SCRIPT, **fields):
    return client.post("/ocr/", {"image": SimpleUploadedFile(name, data), **fields}, headers=headers)


def save(client, extraction, *, version=None, headers=None, **values):
    form = {"version": extraction.version if version is None else version, **values}
    return client.post(f"/ocr/{extraction.pk}/", form, headers=headers)


def may_approve_own(user):
    user.user_permissions.add(Permission.objects.get(codename="approve_own_ktp"))


# --- Sending ---


def test_a_script_gets_the_row_of_what_it_sent(browser):
    response = send(browser, specimen())

    extraction = KtpExtraction.objects.get()
    assert response.status_code == 201
    assert f'data-reading="{extraction.pk}"' in response.text
    assert f'data-events="/ocr/{extraction.pk}/events/"' in response.text
    assert "place 1 in the queue" in response.text
    assert "<html" not in response.text


def test_a_script_of_a_clerk_who_has_lost_the_right_is_told_so(browser, clerk):
    clerk.user_permissions.clear()
    clerk.groups.clear()

    response = send(browser, specimen())

    assert (response.status_code, response.json()["message"]) == (403, "Your account may not upload cards any more.")
    assert not KtpExtraction.objects.exists()


def test_a_script_is_told_in_words_why_a_file_is_refused(browser):
    response = send(browser, b"not an image", headers={**AS_SCRIPT, "Accept-Language": "id"})

    assert response.status_code == 400
    assert response.json()["message"].startswith("Berkas ini bukan gambar. Pilih foto")
    assert response.json()["may_retry"] is False


def test_a_script_may_try_again_when_it_is_the_servers_fault(browser):
    ModelWorker.objects.create(name="w", model="tiny", state="failed", error="no such folder")

    response = send(browser, specimen())

    assert (response.status_code, response.json()["may_retry"]) == (503, True)


def test_a_page_of_a_scan_is_chosen(browser):
    scan = pdf_bytes(Image.new("RGB", (300, 200), "red"), Image.new("RGB", (200, 100), "blue"))

    assert 'data-pages="2" data-page="2"' in send(browser, scan, name="scan.pdf", page="2").text
    stored = Image.open(io.BytesIO(bytes(KtpImage.objects.get().data))).convert("RGB")
    red, _, blue = np.asarray(stored).mean((0, 1))
    assert blue > 200 > red
    assert "does not have that page" in send(browser, scan, page="3").json()["message"]


def test_the_same_picture_again_says_when_it_was_read_to_who_may_know(browser, client, clerk, other):
    assert "The same picture" not in send(browser, specimen()).text
    first = KtpExtraction.objects.get()
    again = send(browser, specimen())
    assert "The same picture was read on" in again.text and f"/ocr/{first.pk}/" in again.text
    assert "The same picture" not in send(browser, specimen(size=(860, 540))).text

    client.force_login(other)
    assert "The same picture" not in send(client, specimen()).text


def test_no_reading_is_ever_out_of_reach(browser, clerk):
    readings = [read_extraction(clerk) for _ in range(21)]

    assert f'data-reading="{readings[0].pk}"' not in browser.get("/ocr/").text
    older = browser.get("/ocr/?page=2").text
    assert f'data-reading="{readings[0].pk}"' in older and "Page 2 of 2" in older
    for nonsense in ("x", "0", "99", "\0"):
        assert browser.get("/ocr/", {"page": nonsense}).status_code == 200


# --- Following ---


def test_progress_tells_places_and_the_rows_of_those_that_are_finished(browser, clerk, other):
    done, first, second = reading_extraction(clerk), reading_extraction(clerk), reading_extraction(clerk)
    foreign = reading_extraction(other)
    answer(done.session_id, CARD_JSON)

    ids = "&".join(f"reading={extraction.pk}" for extraction in (done, first, second, foreign))
    told = browser.get(f"/ocr/progress/?{ids}", headers=AS_SCRIPT).json()

    assert told.keys() == {str(done.pk), str(first.pk), str(second.pk)}
    assert told[str(first.pk)] == {"place": 1} and told[str(second.pk)] == {"place": 2}
    assert 'data-outcome="read"' in told[str(done.pk)]["row"]
    assert CARD["nik"] not in told[str(done.pk)]["row"]


def test_progress_of_what_is_no_reading_is_refused(browser):
    assert browser.get("/ocr/progress/?reading=x").status_code == 400
    assert browser.get("/ocr/progress/").json() == {}


def events(client, extraction, last=""):
    response = client.get(f"/ocr/{extraction.pk}/events/", headers={"Last-Event-ID": last} if last else {})
    if response.status_code != 200:
        return response.status_code, []

    async def read():
        return b"".join([piece async for piece in response.streaming_content])

    from asgiref.sync import async_to_sync

    found = async_to_sync(read)().decode()
    ids = [line[4:] for line in found.splitlines() if line.startswith("id: ")]
    data = [json.loads(line[6:]) for line in found.splitlines() if line.startswith("data: ")]
    return 200, list(zip(ids, data, strict=True))


def test_a_reading_is_streamed_to_its_clerk_and_goes_on_where_it_broke(browser, clerk):
    extraction = reading_extraction(clerk)
    answer(extraction.session_id, CARD_JSON)

    status, whole = events(browser, extraction)
    assert status == 200
    # Nothing is revealed by following.
    assert "".join(data.get("text", "") for _, data in whole) == re.sub(r"\d", "•", CARD_JSON)
    assert whole[-1][1] == {"end": True}
    assert events(browser, extraction, last=whole[0][0]) == (200, whole[1:])
    assert events(browser, extraction, last=whole[-1][0]) == (204, [])
    # Of another reading, or nonsense: all of it.
    assert events(browser, extraction, last="sess_other:1") == (200, whole)
    assert events(browser, extraction, last="nonsense") == (200, whole)


def test_a_stream_names_no_session_in_its_headers(browser, clerk):
    extraction = reading_extraction(clerk)
    answer(extraction.session_id, CARD_JSON)
    response = browser.get(f"/ocr/{extraction.pk}/events/")
    assert extraction.session_id and extraction.session_id not in str(response.headers)
    assert response["Cache-Control"] == "no-store, no-transform"
    response.close()


@pytest.mark.parametrize("path", ["", "progress/", "{pk}/", "{pk}/check/", "{pk}/cancel/", "{pk}/turn/"])
def test_a_script_whose_log_in_has_expired_is_told_so(client, clerk, path):
    extraction = read_extraction(clerk)
    address = "/ocr/" + path.format(pk=extraction.pk)
    ask = client.get if path in ("progress/", "{pk}/") else client.post

    response = ask(address, headers=AS_SCRIPT)
    assert (response.status_code, response.json()) == (401, {"login": "/accounts/login/"})
    assert ask(address).status_code == 302
    assert client.get(f"/ocr/{extraction.pk}/events/").status_code == 401


# --- Cancel, turn, read again ---


def test_a_waiting_reading_is_cancelled_at_once(browser, clerk):
    extraction = reading_extraction(clerk)

    row = browser.post(f"/ocr/{extraction.pk}/cancel/", headers=AS_SCRIPT)

    extraction.refresh_from_db()
    assert (extraction.state, ChatSession.objects.get().state) == ("failed", "cancelled")
    assert 'data-outcome="cancelled"' in row.text and "Read again" in row.text
    # Again: nothing changes, and without a script the page is led to.
    assert browser.post(f"/ocr/{extraction.pk}/cancel/")["Location"] == f"/ocr/{extraction.pk}/"


def test_a_turned_picture_is_read_again_and_the_history_says_so(browser, clerk):
    send(browser, specimen())
    extraction = KtpExtraction.objects.get()
    answer(extraction.session_id, FLAGGED_JSON)
    browser.get(f"/ocr/{extraction.pk}/")
    extraction.refresh_from_db()
    before, first_session = bytes(extraction.image.data), extraction.session_id

    row = browser.post(
        f"/ocr/{extraction.pk}/turn/", {"quarters": "1", "version": extraction.version}, headers=AS_SCRIPT
    )

    assert 'data-outcome="reading"' in row.text
    extraction = KtpExtraction.objects.get()
    image = extraction.image
    assert (image.width, image.height) == (540, 856) and bytes(image.data) != before
    assert extraction.session_id not in (None, first_session)
    sent = SessionMedia.objects.get(session=extraction.session_id)
    assert bytes(sent.data) == bytes(image.data), "the model reads what is stored"
    line = KtpChange.objects.get(kind="read_again")
    assert (line.actor, line.note, line.facts["replaced"]["nik"]) == (clerk, "90", "3171990201900001")

    answer(extraction.session_id, CARD_JSON)
    browser.get(f"/ocr/{extraction.pk}/")
    extraction.refresh_from_db()
    assert extraction.nik == CARD["nik"]


def test_a_picture_is_not_changed_by_being_read_again_unturned(browser, clerk):
    extraction = reading_extraction(clerk)
    answer(extraction.session_id, "", error={"message": "gone", "type": "server_error"})
    browser.get(f"/ocr/{extraction.pk}/")
    extraction.refresh_from_db()
    before = bytes(extraction.image.data)

    browser.post(f"/ocr/{extraction.pk}/turn/", {"quarters": "0", "version": extraction.version})

    extraction = KtpExtraction.objects.get()
    assert extraction.state == "reading" and bytes(extraction.image.data) == before


def test_what_cannot_be_read_again_stays_as_it_is_and_leaves_no_session_running(browser, clerk):
    extraction = read_extraction(clerk)
    for version, change in ((extraction.version - 1, None), (None, "send")):
        if change:
            extraction.send_for_review(clerk, extraction.version)
        form = {"quarters": "1", "version": extraction.version if version is None else version}
        response = browser.post(f"/ocr/{extraction.pk}/turn/", form, headers=AS_SCRIPT)
        assert (response.status_code, bool(response.json()["message"])) == (409, True)
        assert not ChatSession.objects.exclude(pk=extraction.session_id).unfinished().exists()
        assert KtpExtraction.objects.get().state == "read"


@pytest.mark.parametrize("form", [{}, {"quarters": "x", "version": "1"}, {"quarters": "1"}])
def test_a_turn_that_says_nothing_is_a_bad_request(browser, clerk, form):
    assert browser.post(f"/ocr/{read_extraction(clerk).pk}/turn/", form).status_code == 400


@pytest.mark.parametrize(
    ("size", "text", "offered"),
    [
        ((540, 856), FLAGGED_JSON, True),
        ((600, 800), FLAGGED_JSON, False),  # a card on a photograph that was held upright
        ((540, 856), CARD_JSON, False),
        ((600, 800), "{}", True),
        ((600, 800), '{"nik": "1", "nama": "2", "tgl_lahir": "3"}', True),
        ((856, 540), FLAGGED_JSON, False),
        ((856, 540), "{}", False),
    ],
)
def test_a_card_that_seems_to_lie_on_its_side_is_offered_to_be_turned(browser, clerk, size, text, offered):
    send(browser, specimen(size=size))
    extraction = KtpExtraction.objects.get()
    answer(extraction.session_id, text)

    page = browser.get(f"/ocr/{extraction.pk}/").text

    assert ("Does the card lie on its side?" in page) is offered


# --- What came out ---


@pytest.mark.parametrize(
    ("text", "error", "outcome", "said"),
    [
        ("{}", None, "nothing", "No identity card was found"),
        ("I see a cat.", None, "nothing", "No identity card was found"),
        ("", {"message": "secret", "type": "server_error"}, "failed", "The card could not be read."),
    ],
)
def test_what_is_no_reading_has_a_result_of_its_own_and_does_not_join_the_queue(
    browser, clerk, text, error, outcome, said
):
    extraction = reading_extraction(clerk)
    answer(extraction.session_id, text, **({"error": error} if error else {}))

    page = browser.get(f"/ocr/{extraction.pk}/")

    assert page.context["reading"].outcome == outcome
    assert said in page.text and "Read again" in page.text and "secret" not in page.text
    assert '<input type="text"' not in page.text and "Pekerjaan" not in page.text
    extraction.refresh_from_db()
    save(browser, extraction, action="send")
    assert not KtpExtraction.objects.waiting_for_review().exists()


# --- Correcting ---


def test_a_clerk_corrects_a_value_and_sends_the_card_for_review(browser, clerk):
    extraction = read_extraction(clerk, FLAGGED_JSON)

    response = save(browser, extraction, nik=CARD["nik"], action="send")

    assert (response.status_code, response["Location"]) == (302, "/ocr/")
    extraction.refresh_from_db()
    assert extraction.nik == CARD["nik"] and extraction.submitted_at is not None
    assert list(KtpChange.objects.filter(actor=clerk).values_list("kind", flat=True)) == ["corrected", "sent"]
    page = browser.get(f"/ocr/{extraction.pk}/").text
    assert "sent for review" in page and '<input type="text"' not in page


def test_a_card_with_an_open_flag_is_saved_and_not_sent(browser, clerk):
    extraction = read_extraction(clerk, FLAGGED_JSON)

    response = save(browser, extraction, nama="SITI AMINAH", action="send")

    assert response.status_code == 400
    assert "2 flags are open" in response.text
    extraction.refresh_from_db()
    assert extraction.nama == "SITI AMINAH" and extraction.submitted_at is None


def test_a_flag_that_is_printed_so_is_confirmed_and_the_card_sent(browser, clerk):
    extraction = read_extraction(clerk, FLAGGED_JSON)
    page = browser.get(f"/ocr/{extraction.pk}/").text
    ticks = ["nik|nik_birth_date_differs", "tgl_lahir|nik_birth_date_differs"]
    for tick in ticks:
        assert f'name="confirm" value="{tick}"' in page
    assert "nik|nik_unused_district" not in page, "an info is no flag"

    save(browser, extraction, confirm=ticks[:1])
    extraction.refresh_from_db()
    assert len(extraction.open_flags) == 1
    assert "Confirmed: printed so on the card." in browser.get(f"/ocr/{extraction.pk}/").text
    save(browser, extraction, confirm=ticks[1:], action="send")

    assert KtpExtraction.objects.waiting_for_review().get() == extraction


def test_without_the_right_nobody_finishes_a_card_alone(browser, clerk):
    extraction = read_extraction(clerk)
    assert "Save and finish" not in browser.get(f"/ocr/{extraction.pk}/").text
    save(browser, extraction, action="approve")
    extraction.refresh_from_db()
    assert extraction.review == "needs_review"

    may_approve_own(clerk)
    assert "Save and finish" in browser.get(f"/ocr/{extraction.pk}/").text
    save(browser, extraction, action="approve")
    extraction.refresh_from_db()
    assert (extraction.review, extraction.reviewed_by) == ("approved", clerk)


def test_a_flagged_card_is_not_finished_alone_even_with_the_right(browser, clerk):
    may_approve_own(clerk)
    extraction = read_extraction(clerk, FLAGGED_JSON)
    assert "Save and finish" not in browser.get(f"/ocr/{extraction.pk}/").text
    assert save(browser, extraction, action="approve").status_code == 400
    extraction.refresh_from_db()
    assert extraction.review == "needs_review"


def test_a_stale_form_loses_nothing_and_shows_who_changed_what(browser, clerk, other):
    extraction = read_extraction(clerk)
    seen = extraction.version
    extraction.correct(other, {"nama": "SITI AMINAH", "agama": "HINDU"}, seen)

    mine = {"nama": "BUDI SANTOSA", "agama": CARD["agama"], "pekerjaan": "GURU"}
    response = save(browser, extraction, version=seen, **mine)

    assert response.status_code == 409
    for text in ("<b>other</b>", "SITI AMINAH", "You have typed “BUDI SANTOSA”", 'value="GURU"'):
        assert text in response.text
    rows = {row.field.path: row.value for row in response.context["rows"]}
    # What the clerk had not touched is as the other has left it.
    assert (rows["nama"], rows["agama"], rows["pekerjaan"]) == ("BUDI SANTOSA", "HINDU", "GURU")
    extraction.refresh_from_db()
    assert (extraction.nama, extraction.pekerjaan) == ("SITI AMINAH", CARD["pekerjaan"])

    save(browser, extraction, **rows_as_form(response))
    extraction.refresh_from_db()
    assert (extraction.nama, extraction.agama, extraction.pekerjaan) == ("BUDI SANTOSA", "HINDU", "GURU")


def rows_as_form(response):
    return {row.field.column: row.value for row in response.context["rows"]}


@pytest.mark.parametrize("version", ["", "x", "-1", "99"])
def test_a_form_without_a_version_that_there_was_saves_nothing(browser, clerk, version):
    extraction = read_extraction(clerk)
    assert save(browser, extraction, version=version, nama="X").status_code == 409
    extraction.refresh_from_db()
    assert extraction.nama == CARD["nama"]


def test_nobody_changes_a_reading_of_another_by_knowing_its_address(client, clerk, other, django_user_model):
    extraction = read_extraction(clerk)
    chief = django_user_model.objects.create_user("chief", is_staff=True)
    chief.user_permissions.add(Permission.objects.get(codename="view_ktpextraction"))
    for user in (other, chief):
        client.force_login(user)
        assert save(client, extraction, nama="X").status_code == 404
    client.force_login(chief)
    page = client.get(f"/ocr/{extraction.pk}/").text
    assert CARD["pekerjaan"] in page and '<input type="text"' not in page and "Turn left" not in page


def test_who_neither_sent_the_card_nor_reviews_cards_sees_no_holders_data(client, clerk, django_user_model):
    extraction = read_extraction(clerk, FLAGGED_JSON, uncertain=CARD["nama"])
    auditor = django_user_model.objects.create_user("auditor", is_staff=True)
    auditor.user_permissions.add(Permission.objects.get(codename="view_ktpextraction"))
    client.force_login(auditor)

    page = client.get(f"/ocr/{extraction.pk}/").text
    for path in ("nama", "tempat_lahir", "alamat.name"):
        assert f">{CARD[path]}<" not in page, path
    assert "3171990201900001" not in page and "317199••••••0001" in page and CARD["pekerjaan"] in page
    assert client.get(f"/ocr/{extraction.pk}/events/").status_code == 404

    auditor.user_permissions.add(Permission.objects.get(codename="review_ktp"))
    client.force_login(django_user_model.objects.get(pk=auditor.pk))
    assert CARD["nama"] in client.get(f"/ocr/{extraction.pk}/").text


def test_who_is_no_clerk_any_more_changes_nothing(browser, clerk):
    extraction = read_extraction(clerk)
    clerk.user_permissions.clear()
    clerk.groups.clear()
    assert save(browser, extraction, nama="X").status_code == 404


# --- Checked as one types ---


def checked(browser, extraction, **values):
    return browser.post(f"/ocr/{extraction.pk}/check/", values, headers=AS_SCRIPT).json()["fields"]


def test_values_are_checked_before_they_are_saved(browser, clerk):
    extraction = read_extraction(clerk)

    told = checked(browser, extraction, nik="123", tgl_lahir="99-99-1990", agama="ISLM")

    assert told["nik"]["worst"] == "error" and "A NIK has 16 digits." in told["nik"]["html"]
    assert told["tgl_lahir"]["worst"] == "error"
    assert 'data-value="ISLAM"' in told["agama"]["html"]
    assert told["nama"] == {"html": told["nama"]["html"], "worst": ""}
    extraction.refresh_from_db()
    assert extraction.values == CARD, "nothing is saved"


def test_a_check_speaks_the_language_of_the_page(browser, clerk):
    extraction = read_extraction(clerk)
    headers = {**AS_SCRIPT, "Accept-Language": "id"}
    told = browser.post(f"/ocr/{extraction.pk}/check/", {"nik": "1"}, headers=headers).json()
    assert "NIK harus 16 angka." in told["fields"]["nik"]["html"]


def test_what_is_typed_is_never_markup(browser, clerk):
    extraction = read_extraction(clerk)
    told = checked(browser, extraction, agama='"><script>', pekerjaan="<b>GURU")
    assert "<script>" not in told["agama"]["html"] and "<b>" not in told["pekerjaan"]["html"]
    response = save(browser, extraction, nama="<i>x", version=0)
    assert "&lt;i&gt;x" in response.text and "<i>x" not in response.text


def test_a_card_that_was_turned_down_says_why(browser, clerk, other):
    extraction = read_extraction(clerk)
    extraction.send_for_review(clerk, extraction.version)
    extraction.reject(other, "blurred", "The NIK <b>", extraction.version)

    page = browser.get(f"/ocr/{extraction.pk}/").text

    assert "A reviewer has turned this card down." in page
    assert "Blurred or too small to read: The NIK &lt;b&gt;" in page


# --- One after the other ---


def test_after_a_card_was_sent_the_next_one_is_open(browser, clerk, other):
    first, second, foreign = read_extraction(clerk), read_extraction(clerk), read_extraction(other)
    empty = read_extraction(clerk, "{}")

    response = save(browser, second, action="send")
    assert response["Location"] == f"/ocr/{first.pk}/"
    assert "This is the next of your cards." in browser.get(response["Location"]).text
    assert save(browser, first, action="send")["Location"] == "/ocr/"
    assert KtpExtraction.objects.filter(submitted_at=None).count() == len([foreign, empty])


def test_who_has_many_cards_waiting_is_told_to_send_more_later(browser, clerk, settings):
    settings.MAX_QUEUED_SESSIONS_PER_CALLER = 1
    assert send(browser, specimen()).status_code == 201

    response = send(browser, specimen())

    assert (response.status_code, response.json()["may_retry"]) == (429, True)
    assert "Send this one again when some of them have been read." in response.json()["message"]
    assert KtpExtraction.objects.count() == 1
    again = KtpExtraction.objects.get()
    answer(again.session_id, FLAGGED_JSON)
    browser.get(f"/ocr/{again.pk}/")
    assert send(browser, specimen(size=(860, 540))).status_code == 201
    again.refresh_from_db()
    form = {"quarters": "1", "version": again.version}
    assert browser.post(f"/ocr/{again.pk}/turn/", form, headers=AS_SCRIPT).status_code == 429
    again.refresh_from_db()
    assert again.state == "read", "it is not lost"
