from __future__ import annotations

import uuid

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from PIL import Image

from inference.models import ModelWorker
from ocr.models import KtpExtraction
from ocr.reading.schema import FIELDS, as_contract
from sessions_app.models import ChatSession
from tests.db.ktp_calls import KEYS, error_of, post
from tests.db.ktp_cards import CARD_JSON, FLAGGED_JSON, specimen
from tests.ktp_card import CARD
from tests.media_samples import heic_bytes, image_bytes, pdf_bytes

# The operation is async and its database work runs on other threads.
pytestmark = pytest.mark.django_db(transaction=True)


def test_two_pictures_are_refused_and_none_is_read(client):
    files = [SimpleUploadedFile(name, specimen(), "image/jpeg") for name in ("front.jpg", "back.jpg")]
    error = error_of(client.post("/ktp-ocr/", {"image": files}))
    assert error["param"] == "image"
    assert "2 files" in error["message"]
    assert not KtpExtraction.objects.exists()


@pytest.mark.parametrize("path", ["/ktp-ocr/", "/ktp-ocr"])
def test_a_card_comes_back_as_the_eleven_keys_and_meta(client, model_that_says, path):
    model_that_says(CARD_JSON)

    response = post(client, specimen(), path=path)

    assert response.status_code == 200
    body = response.json()
    assert list(body) == KEYS
    meta = body.pop("meta")
    assert body == as_contract(CARD)
    extraction = KtpExtraction.objects.get()
    assert meta["id"] == str(extraction.pk)
    assert meta["session_id"] == extraction.session_id == response["X-Session-ID"]
    assert (meta["state"], meta["model"]) == ("read", extraction.model)
    assert [problem["code"] for problem in meta["problems"]] == ["nik_unused_district"]
    assert set(meta["problems"][0]) == {"field", "code", "severity", "message", "pesan"}
    assert meta["seconds"] >= 0
    assert extraction.uploaded_by is None


def test_problems_flag_and_never_change_a_value(client, model_that_says):
    model_that_says(FLAGGED_JSON)

    body = post(client, specimen()).json()

    assert body["nik"] == "3171990201900001"
    assert ("nik", "nik_birth_date_differs", "warning") in {
        (problem["field"], problem["code"], problem["severity"]) for problem in body["meta"]["problems"]
    }


@pytest.mark.parametrize(
    ("how", "state", "code"),
    [
        ({"text": "zq \x01 wv"}, "read", "not_json"),
        ({"text": ""}, "read", "no_answer"),
        ({"text": "{}"}, "read", "wrong_shape"),
        (
            {"text": "", "error": {"message": "boom", "type": "server_error", "code": None}},
            "failed",
            "generation_failed",
        ),
        ({"text": "", "reason": "cancelled"}, "failed", "cancelled"),
    ],
)
def test_what_cannot_be_read_is_empty_strings_and_a_reason(client, model_that_says, how, state, code):
    model_that_says(**how)

    response = post(client, specimen())

    assert response.status_code == 200
    body = response.json()
    meta = body.pop("meta")
    assert body == as_contract({field.path: "" for field in FIELDS})
    assert (meta["state"], code in [problem["code"] for problem in meta["problems"]]) == (state, True)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(heic_bytes(Image.new("RGB", (856, 540), "tan")), id="heic"),
        pytest.param(image_bytes((856, 540), format="AVIF"), id="avif"),
        pytest.param(pdf_bytes(Image.new("RGB", (856, 540), "tan")), id="pdf"),
    ],
)
def test_a_card_is_taken_as_phones_and_scanners_write_it(client, model_that_says, data):
    model_that_says(CARD_JSON)

    assert post(client, data).status_code == 200
    assert KtpExtraction.objects.get().image.content_type == "image/jpeg"


def test_no_file_is_named_as_the_missing_field(client):
    for response in (post(client), client.post("/ktp-ocr/", {"image": "text"}), client.post("/ktp-ocr/")):
        assert response.status_code == 400
        error = error_of(response)
        assert error["param"] == "image"
        assert "multipart/form-data" in error["message"]
    assert not KtpExtraction.objects.exists()


@pytest.mark.parametrize("data", [b"", b"not an image", b"\xff\xd8\xff\xe0 cut", specimen()[:3000], b"%PDF-1.4"])
def test_what_is_no_image_is_refused(client, data):
    response = post(client, data)

    assert response.status_code == 400
    assert error_of(response)["param"] == "image"
    assert not KtpExtraction.objects.exists() and not ChatSession.objects.exists()


def test_too_large_a_file_is_refused(client, settings):
    settings.OCR_MAX_UPLOAD_BYTES = 2048

    response = post(client, specimen())

    assert response.status_code == 413
    assert error_of(response)["param"] == "image"


def test_a_model_that_failed_to_load_is_503_with_the_reason(client):
    ModelWorker.objects.create(name="w", model="tiny", state="failed", error="no such folder")

    response = post(client, specimen())

    assert response.status_code == 503
    assert "no such folder" in error_of(response)["message"]
    assert not KtpExtraction.objects.exists()


def test_a_model_that_fails_while_the_card_waits_is_503_too(client, model_that_says):
    model_that_says(error={"message": "no model", "type": "server_error", "code": "model_not_loaded"}, status=503)

    response = post(client, specimen())

    assert response.status_code == 503
    assert error_of(response)["code"] == "model_not_loaded"
    assert KtpExtraction.objects.get().state == "failed"


def test_a_wait_that_runs_out_names_the_extraction_and_lets_it_go_on(client, settings):
    settings.OCR_TIMEOUT_SECONDS = 0.2

    response = post(client, specimen())

    assert response.status_code == 504
    error = error_of(response)
    assert error["code"] == "timeout"
    extraction = KtpExtraction.objects.get()
    assert str(extraction.pk) in error["message"]
    assert extraction.session_id == response["X-Session-ID"]
    assert extraction.state == "reading"
    assert ChatSession.objects.get().state == "queued"


def test_keys_guard_it_like_the_rest_of_the_api(client, settings):
    settings.API_KEYS = [f"key-{uuid.uuid4()}"]

    assert post(client, specimen()).status_code == 401
    assert post(client, headers={"Authorization": f"Bearer {settings.API_KEYS[0]}"}).status_code == 400


def test_a_request_id_is_kept_with_the_session(client, model_that_says):
    model_that_says(CARD_JSON)

    post(client, specimen(), headers={"X-Request-ID": "desk-7"})

    assert ChatSession.objects.get().request_id == "desk-7"


def test_it_is_described_in_the_api_documents(client):
    operation = client.get("/openapi.json").json()["paths"]["/ktp-ocr/"]["post"]

    schema = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert schema["properties"]["image"]["format"] == "binary"  # the page at /docs offers a file chooser
