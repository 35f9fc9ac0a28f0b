"""With a real worker: a card is read while nobody waits, and the caller's own server is told."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.callback_receiver import Receiver
from tests.live.stack import EmbeddedStack
from tests.media_samples import image_bytes
from tests.waiting import wait_for

ASYNC = {"Prefer": "respond-async"}


def test_nobody_waits_and_the_callers_server_is_told(start_embedded: Callable[..., EmbeddedStack]) -> None:
    stack = start_embedded(OCR_CALLBACK_HOSTS="127.0.0.1", OCR_CALLBACK_SECRETS="x" * 32)
    with Receiver() as receiver, stack.client(headers=ASYNC) as http:
        files = [("images", ("a.png", image_bytes((64, 40)))), ("images", ("b.png", image_bytes((40, 64))))]
        form = {"callback_url": receiver.url}
        one = http.post("/ktp-ocr/", files={"image": image_bytes((64, 40))}, data=form)
        many = http.post("/ktp-ocr/", files=files, data=form)
        assert [one.status_code, many.status_code] == [202, 202]

        wait_for(lambda: len(receiver.got) == 2)
        locations = {json.loads(got.body)["location"] for got in receiver.got}
        assert locations == {one.headers["Location"], many.headers["Location"]}
        assert http.get(one.headers["Location"]).json()["meta"]["state"] == "read"
        assert [item["status"] for item in http.get(many.headers["Location"]).json()["items"]] == [200, 200]


def test_a_callback_survives_the_server(start_embedded: Callable[..., EmbeddedStack]) -> None:
    stack = start_embedded(OCR_CALLBACK_HOSTS="127.0.0.1", OCR_CALLBACK_SECRETS="x" * 32)
    with Receiver() as receiver, stack.client(headers=ASYNC) as http:
        receiver.statuses = [503]
        sent = http.post("/ktp-ocr/", files={"image": image_bytes((64, 40))}, data={"callback_url": receiver.url})
        wait_for(lambda: len(receiver.got) == 1)
        stack.processes["serve"].kill()
        receiver.statuses = [204]
        # Not to wait for the pause after the first attempt.
        stack.query("UPDATE ocr_ktpcallback SET next_try_at = '2020-01-01 00:00:00'")
        stack.start()

        wait_for(lambda: len(receiver.got) == 2)
        assert json.loads(receiver.got[1].body)["location"] == sent.headers["Location"]


def test_a_running_reading_is_erased_and_its_worker_goes_on(start_embedded: Callable[..., EmbeddedStack]) -> None:
    stack = start_embedded(OCR_MAX_TOKENS=4000, OCR_GRAMMAR=0)
    picture = {"image": image_bytes((64, 40))}
    with stack.client(headers=ASYNC) as http:
        location = http.post("/ktp-ocr/", files=picture).headers["Location"]
        assert http.delete(location).status_code == 204
        assert http.get(location).status_code == 410
        assert stack.query("SELECT COUNT(*) FROM sessions_app_chatsession") == [(0,)]

        again = http.post("/ktp-ocr/", files=picture).headers["Location"]
        wait_for(lambda: http.get(again).status_code == 200)
