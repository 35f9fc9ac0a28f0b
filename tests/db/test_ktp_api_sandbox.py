"""Pictures with fixed outcomes: every code can be seen without a model and without a card that has the fault."""

from __future__ import annotations

import pytest

from ocr.models import KtpExtraction
from ocr.reading.problem_texts import TEXTS
from ocr.sandbox.outcomes import OUTCOMES
from ocr.sandbox.pictures import draw
from sessions_app.models import ChatSession
from tests.db.ktp_calls import ASYNC, KEYS, post

pytestmark = pytest.mark.django_db(transaction=True)

OF_READINGS = [code for code, outcome in OUTCOMES.items() if outcome.error is None]
OF_THE_API = {"api_rate_limit": 429, "api_unavailable": 503, "api_timeout": 504}


@pytest.fixture(autouse=True)
def sandbox(settings):
    settings.OCR_SANDBOX = True


def test_there_is_a_picture_for_every_code():
    assert set(OUTCOMES) == {"read", *TEXTS, *OF_THE_API}


@pytest.mark.parametrize("code", OF_READINGS)
def test_a_picture_has_its_code(client, code):
    read = post(client, draw(code))

    assert read.status_code == 200
    body = read.json()
    assert list(body) == KEYS
    assert body["meta"]["sandbox"] is True
    codes = {problem["code"] for problem in body["meta"]["problems"]}
    assert codes <= {"nik_unused_district"} if code == "read" else code in codes
    assert not ChatSession.objects.exists()
    assert not KtpExtraction.objects.waiting_for_review().exists()


@pytest.mark.parametrize(("code", "status"), OF_THE_API.items())
def test_errors_of_the_api_have_pictures_too(client, code, status):
    assert post(client, draw(code)).status_code == status
    assert not KtpExtraction.objects.exists()


def test_what_comes_back_later_and_is_erased_does_so_in_the_sandbox_too(client):
    sent = post(client, draw("read"), headers=ASYNC)
    assert sent.status_code == 202
    assert client.get(sent["Location"]).json()["meta"]["state"] == "read"
    assert client.delete(sent["Location"]).status_code == 204
    assert client.get(sent["Location"]).status_code == 410


@pytest.mark.parametrize(("code", "error"), [("nothing_read", "not_a_card"), ("not_json", "unreadable")])
def test_a_strict_caller_gets_its_errors(client, code, error):
    refused = post(client, draw(code), headers={"Prefer": "handling=strict"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (422, error)


def test_without_the_setting_they_are_pictures_as_any_other(client, settings):
    settings.OCR_SANDBOX = False
    location = post(client, draw("read"), headers=ASYNC)["Location"]
    assert client.get(location).status_code == 202
    assert not KtpExtraction.objects.get().sandbox
