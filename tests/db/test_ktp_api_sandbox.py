"""Pictures with fixed outcomes: every code can be seen without a model and without a card that has the fault."""

from __future__ import annotations

import pytest

from ocr.models import KtpExtraction
from ocr.reading.problem_texts import TEXTS
from ocr.sandbox.outcomes import HOLDER, OUTCOMES
from ocr.sandbox.pictures import draw
from sessions_app.models import ChatSession
from tests.db.ktp_calls import ASYNC, KEYS, post

pytestmark = pytest.mark.django_db(transaction=True)

OF_THE_API = {"api_rate_limit", "api_unavailable", "api_timeout"}
OF_READINGS = [code for code in OUTCOMES if code not in OF_THE_API]


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
    assert code in codes or code == "read"
    # The holder's number can be nobody's, and the checks say so of each.
    assert "nik_unused_district" in codes or HOLDER["nik"] not in OUTCOMES[code].text
    assert not ChatSession.objects.exists()
    assert not KtpExtraction.objects.waiting_for_review().exists()


@pytest.mark.parametrize(("code", "status"), [("api_rate_limit", 429), ("api_unavailable", 503)])
@pytest.mark.parametrize("headers", [{}, ASYNC])
def test_a_refusal_may_be_tried_again_as_a_real_one(client, code, status, headers):
    refused = post(client, draw(code), headers=headers)
    assert refused.status_code == status
    assert refused["Retry-After"] == "5"
    assert "X-Should-Retry" not in refused
    assert not KtpExtraction.objects.exists()


def test_a_card_that_is_not_read_in_time_is_there_later(client):
    late = post(client, draw("api_timeout"))
    assert (late.status_code, late["X-Should-Retry"]) == (504, "false")
    assert late.json()["error"]["code"] == "timeout"
    read = client.get(late["Location"])
    assert (read.status_code, read.json()["nama"]) == (200, HOLDER["nama"])


@pytest.mark.parametrize("wait", ["", ", wait=1"])
def test_a_caller_who_comes_back_gets_no_timeout(client, wait):
    sent = post(client, draw("api_timeout"), headers={"Prefer": "respond-async" + wait})
    assert sent.status_code == 202
    assert client.get(sent["Location"]).json()["meta"]["state"] == "read"


def test_the_same_key_gives_the_card_that_was_not_read_in_time(client):
    once = {"Idempotency-Key": "late"}
    assert post(client, draw("api_timeout"), headers=once).status_code == 504
    again = post(client, draw("api_timeout"), headers=once)
    assert (again.status_code, again["Idempotent-Replayed"]) == (200, "true")


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
