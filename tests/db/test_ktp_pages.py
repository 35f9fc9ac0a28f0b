from __future__ import annotations

import io
import uuid

import pytest
from django.contrib.auth.models import Permission
from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image

from inference.models import ModelWorker
from ocr.lookup import picture_lookup
from ocr.models import KtpExtraction, KtpImage
from sessions_app.models import ChatSession, SessionMedia
from tests.db.ktp_cards import CARD_JSON, FLAGGED_JSON, answer, read_extraction, reading_extraction, specimen
from tests.ktp_card import CARD

# The upload is an async view whose database work runs on other threads, so nothing may hide in a transaction.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def clerk(django_user_model):
    user = django_user_model.objects.create_user("clerk", password="secret")
    user.user_permissions.add(Permission.objects.get(codename="add_ktpextraction"))
    return user


@pytest.fixture
def stranger(django_user_model):
    return django_user_model.objects.create_user("stranger")


@pytest.fixture
def chief(django_user_model):
    """Staff that may view extractions, but not their images."""
    user = django_user_model.objects.create_user("chief", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_ktpextraction"))
    return user


@pytest.fixture
def clerks_browser(client, clerk):
    client.force_login(clerk)
    return client


def upload(client, data, name="ktp.jpg"):
    return client.post("/ocr/", {"image": SimpleUploadedFile(name, data, "image/jpeg")})


def test_nobody_gets_in_without_logging_in(client):
    extraction = read_extraction()

    for path in ("/ocr/", f"/ocr/{extraction.pk}/", f"/ocr/{extraction.pk}/image/"):
        response = client.get(path)
        assert (response.status_code, response["Location"]) == (302, f"/accounts/login/?next={path}")
    assert upload(client, specimen()).status_code == 302
    assert KtpExtraction.objects.count() == 1


def test_logging_in_leads_to_the_form(client, clerk):
    assert "Password" in client.get("/accounts/login/").text
    assert "is wrong" in client.post("/accounts/login/", {"username": "clerk", "password": "wrong"}).text

    response = client.post("/accounts/login/", {"username": "clerk", "password": "secret"})

    assert (response.status_code, response["Location"]) == (302, "/ocr/")


@pytest.mark.parametrize("columns", [{}, {"is_staff": True}])
def test_who_may_not_upload_is_told_what_is_missing(client, django_user_model, columns):
    client.force_login(django_user_model.objects.create_user("visitor", **columns))

    for response in (client.get("/ocr/"), upload(client, specimen())):
        assert response.status_code == 403
        for text in ("You may not upload", "group “Clerk”", "visitor"):
            assert text in response.text
        assert 'type="file"' not in response.text
    assert not KtpExtraction.objects.exists() and not ChatSession.objects.exists()


def test_who_loses_the_right_uploads_no_more_and_still_sees_what_they_uploaded(clerks_browser, clerk):
    extraction = read_extraction(clerk)
    clerk.user_permissions.clear()

    assert upload(clerks_browser, specimen()).status_code == 403
    assert clerks_browser.get(f"/ocr/{extraction.pk}/").status_code == 200


def test_a_superuser_may_upload(client, django_user_model):
    client.force_login(django_user_model.objects.create_superuser("admin"))

    assert upload(client, specimen()).status_code == 302


@pytest.mark.parametrize(
    ("language", "texts"),
    [("en", ("Picture of the card", "None yet.")), ("id", ("Foto KTP", "Belum ada."))],
)
def test_the_form_greets_a_new_clerk_in_one_language(clerks_browser, language, texts):
    response = clerks_browser.get("/ocr/", headers={"Accept-Language": language})

    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    for text in (*texts, f'<html lang="{language}"', 'enctype="multipart/form-data"'):
        assert text in response.text
    assert "csrfmiddlewaretoken" in response.text


def test_pages_have_no_script_in_their_text_and_nothing_from_elsewhere(clerks_browser, clerk):
    extraction = read_extraction(clerk)

    for path in ("/", "/ocr/", f"/ocr/{extraction.pk}/", "/accounts/login/"):
        page = clerks_browser.get(path).text
        for forbidden in ("<script>", "<style", "style=", "onclick", "http://", "https://", "http-equiv"):
            assert forbidden not in page.replace("http://testserver/v1", ""), (path, forbidden)


def test_a_post_without_the_token_is_refused(clerk):
    from django.test import Client

    strict = Client(enforce_csrf_checks=True)
    strict.force_login(clerk)

    assert upload(strict, specimen()).status_code == 403
    assert not KtpExtraction.objects.exists()


def test_an_upload_is_stored_sent_and_leads_to_its_page(clerks_browser, clerk):
    response = upload(clerks_browser, specimen(), name="C:\\scan\\ktp.jpg")

    extraction = KtpExtraction.objects.get()
    assert (response.status_code, response["Location"]) == (302, f"/ocr/{extraction.pk}/")
    assert (extraction.uploaded_by, extraction.file_name, extraction.state) == (clerk, "ktp.jpg", "reading")
    session = ChatSession.objects.get()
    assert extraction.session == session
    assert (session.state, session.origin) == ("queued", "ocr")
    assert session.request["sampling"]["temperature"] == 0.0
    media = SessionMedia.objects.get()
    assert bytes(media.data) == bytes(extraction.image.data), "the model reads what is stored"
    assert extraction.image.sha256 == picture_lookup(bytes(media.data))


def test_the_stored_picture_is_upright_and_tells_nothing_of_the_camera(clerks_browser):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    exif[0x010F] = "CameraMaker"
    exif[0x8825] = {1: "S", 2: (6.0, 10.0, 0.0)}  # GPS
    upload(clerks_browser, specimen("JPEG", size=(540, 856), exif=exif.tobytes(), comment=b"where I live"))

    image = KtpImage.objects.get()
    stored = bytes(image.data)
    assert (image.content_type, image.width, image.height) == ("image/jpeg", 856, 540)
    decoded = Image.open(io.BytesIO(stored))
    assert decoded.size == (856, 540)
    assert not decoded.getexif()
    assert b"CameraMaker" not in stored and b"where I live" not in stored


def test_png_stays_png_and_a_large_picture_becomes_a_useful_size(clerks_browser):
    upload(clerks_browser, specimen("PNG", size=(4000, 2500)))

    image = KtpImage.objects.get()
    assert (image.content_type, image.width, image.height) == ("image/png", 2048, 1280)
    assert Image.open(io.BytesIO(bytes(image.data))).format == "PNG"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"not an image", "This file is not a picture. Choose"),
        (b"", "The file is empty. Choose it again"),
        (specimen()[:3000], "This picture is damaged, or too large to read. Take a new one"),
        (b"%PDF-1.4", "This PDF cannot be read. Scan the card again"),
    ],
)
def test_what_is_no_image_is_refused_beside_the_field_with_what_to_do(clerks_browser, data, said):
    response = upload(clerks_browser, data)

    assert response.status_code == 400
    assert response.context["form"].errors.keys() == {"image"}
    assert said in response.text
    assert not KtpExtraction.objects.exists() and not ChatSession.objects.exists()


def test_no_file_and_a_file_too_large_are_refused_beside_the_field(clerks_browser, settings):
    response = clerks_browser.post("/ocr/", {})
    assert response.status_code == 400
    assert "Choose a picture of a card first." in response.text

    settings.OCR_MAX_UPLOAD_BYTES = 2048
    response = upload(clerks_browser, specimen())
    assert response.status_code == 400
    assert "The file is larger than 2.0\xa0KB." in response.text
    assert not KtpExtraction.objects.exists()


def test_without_a_model_the_clerk_is_told_and_nothing_is_kept(clerks_browser):
    ModelWorker.objects.create(name="w", model="tiny", state="failed", error="no such folder")

    response = upload(clerks_browser, specimen())

    assert response.status_code == 503
    assert "not available now" in response.text
    assert not KtpExtraction.objects.exists()


def test_a_full_queue_leaves_nothing_behind(clerks_browser, settings):
    settings.MAX_QUEUED_SESSIONS = 0

    response = upload(clerks_browser, specimen())

    assert response.status_code == 503
    assert not KtpExtraction.objects.exists() and not KtpImage.objects.exists()


def test_a_clerk_with_a_share_of_the_queue_is_told_to_wait_and_another_is_not(clerk, clerks_browser, settings):
    settings.MAX_QUEUED_SESSIONS_PER_CALLER = 1
    assert upload(clerks_browser, specimen()).status_code == 302
    response = upload(clerks_browser, specimen())
    assert response.status_code == 429
    assert "Many of your cards are waiting already" in response.text
    assert KtpExtraction.objects.count() == KtpImage.objects.count() == 1
    session = ChatSession.objects.get()
    assert (session.caller, session.is_named) == (f"user:{clerk.pk}", True)
    ChatSession.objects.update(caller="user:another")
    assert upload(clerks_browser, specimen()).status_code == 302


def test_the_page_shows_the_reading_once_it_is_there(clerks_browser, clerk):
    extraction = reading_extraction(clerk)
    page = clerks_browser.get(f"/ocr/{extraction.pk}/")
    assert "is being read" in page.text
    assert f'data-events="/ocr/{extraction.pk}/events/"' in page.text

    answer(extraction.session_id, CARD_JSON)
    clerks_browser.get(f"/ocr/{extraction.pk}/")
    clerks_browser.post(f"/ocr/{extraction.pk}/", {"action": "reveal"})
    page = clerks_browser.get(f"/ocr/{extraction.pk}/")

    assert "no-store" in page["Cache-Control"]
    for value in CARD.values():
        assert f'value="{value}"' in page.text
    assert f'src="/ocr/{extraction.pk}/image/?' in page.text


def test_problems_stand_at_their_fields_in_words(clerks_browser, clerk):
    extraction = read_extraction(clerk, FLAGGED_JSON)

    page = clerks_browser.get(f"/ocr/{extraction.pk}/")

    rows = {row.field.path: row for row in page.context["rows"]}
    assert [problem.code for problem in rows["nik"].problems] == ["nik_unused_district", "nik_birth_date_differs"]
    assert [problem.code for problem in rows["tgl_lahir"].problems] == ["nik_birth_date_differs"]
    assert rows["nik"].worst == rows["tgl_lahir"].worst == "warning"
    assert "differs from the printed one" in page.text and "berbeda dari" not in page.text


@pytest.mark.parametrize("path", ["", "image/", "check/", "cancel/", "turn/", "events/"])
def test_a_reading_of_somebody_else_is_not_there_for_a_clerk(clerks_browser, stranger, path):
    extraction = read_extraction(stranger)
    ask = clerks_browser.post if path in ("check/", "cancel/", "turn/") else clerks_browser.get

    assert ask(f"/ocr/{extraction.pk}/{path}", {"quarters": 1, "version": 1}).status_code == 404


def test_what_the_model_wrote_is_never_markup(clerks_browser, clerk):
    extraction = read_extraction(clerk, '{"nik": "1", "nama": "<b>&x"}')

    page = clerks_browser.get(f"/ocr/{extraction.pk}/").text

    assert "&lt;b&gt;&amp;x" in page and "<b>&x" not in page


def test_the_list_shows_a_clerks_own_readings_masked(clerks_browser, clerk, stranger):
    own, others = read_extraction(clerk), read_extraction(stranger)

    page = clerks_browser.get("/ocr/").text

    assert str(own.pk) in page and str(others.pk) not in page
    assert "317199••••••0001" in page
    assert CARD["nik"] not in page and CARD["nama"] not in page


def test_a_clerk_sees_nothing_of_others(clerks_browser, stranger):
    extraction = read_extraction(stranger)

    assert clerks_browser.get(f"/ocr/{extraction.pk}/").status_code == 404
    assert clerks_browser.get(f"/ocr/{extraction.pk}/image/").status_code == 404
    assert clerks_browser.get(f"/ocr/{uuid.uuid4()}/").status_code == 404


def test_an_image_is_served_to_its_clerk_and_kept_nowhere(clerks_browser, clerk):
    extraction = read_extraction(clerk)

    response = clerks_browser.get(f"/ocr/{extraction.pk}/image/")

    assert response.status_code == 200
    assert response.content == bytes(extraction.image.data)
    assert response["Content-Type"] == "image/jpeg"
    assert response["Cache-Control"] == "no-store, private"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert clerks_browser.post(f"/ocr/{extraction.pk}/image/").status_code == 405


def test_staff_needs_one_permission_for_readings_and_one_for_images(client, chief, clerk):
    extraction = read_extraction(clerk)
    client.force_login(chief)

    page = client.get(f"/ocr/{extraction.pk}/")
    assert page.status_code == 200
    assert CARD["pekerjaan"] in page.text and "/image/" not in page.text
    assert client.get(f"/ocr/{extraction.pk}/image/").status_code == 404

    chief.user_permissions.add(Permission.objects.get(codename="view_ktp_image"))
    assert client.get(f"/ocr/{extraction.pk}/image/").status_code == 200

    chief.is_staff = False
    chief.save()
    assert client.get(f"/ocr/{extraction.pk}/").status_code == 404
    assert client.get(f"/ocr/{extraction.pk}/image/").status_code == 404


def test_logging_out_says_so(clerks_browser):
    response = clerks_browser.post("/accounts/logout/", follow=True)

    assert response.status_code == 200
    assert clerks_browser.get("/ocr/").status_code == 302
